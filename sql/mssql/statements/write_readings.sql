EXEC dbo.sp_sink_readings @p_rows = ?;
