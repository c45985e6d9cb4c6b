EXEC dbo.sp_sink_dead_letter @p_sink = ?, @p_row_key = ?, @p_error = ?, @p_row = ?;
