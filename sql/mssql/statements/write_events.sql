EXEC dbo.sp_sink_events @p_rows = ?;
