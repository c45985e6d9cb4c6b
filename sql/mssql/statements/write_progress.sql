EXEC dbo.sp_write_progress @p_rows = ?;
