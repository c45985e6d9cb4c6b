EXEC dbo.sp_sink_predictions @p_rows = ?;
