EXEC dbo.sp_sink_rollups @p_rows = ?;
