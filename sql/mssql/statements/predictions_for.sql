DECLARE @sensor bigint = ?, @target bigint = ?;
DECLARE @at datetime2(3) = DATEADD(millisecond, CAST(@target % 1000 AS int),
    DATEADD(second, CAST(@target / 1000 % 86400 AS int),
        DATEADD(day, CAST(@target / 86400000 AS int), CAST('1970-01-01' AS datetime2(3)))));
SELECT
    m.model_name,
    p.window_points,
    CAST(p.predicted_value AS float) AS value,
    CAST(p.confidence AS float) AS confidence,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', p.predicted_at) AS predicted_at
FROM dbo.predictions AS p
INNER JOIN dbo.ml_models AS m ON m.id = p.model_id
WHERE p.sensor_id = @sensor AND p.target_timestamp = @at
ORDER BY p.id;
