EXEC dbo.sp_ml_forecast @p_row = ?;
