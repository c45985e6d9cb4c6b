EXEC dbo.sp_sink_corrections @p_rows = ?;
