EXEC dbo.sp_sink_latest @p_rows = ?;
