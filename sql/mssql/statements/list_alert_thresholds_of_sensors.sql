DECLARE @ids nvarchar(max) = ?;
SELECT
    t.id,
    t.sensor_id,
    t.name,
    t.condition_type,
    CAST(t.threshold_value_min AS float) AS threshold_value_min,
    CAST(t.threshold_value_max AS float) AS threshold_value_max,
    t.severity,
    t.consecutive_readings,
    t.clear_after,
    CAST(t.reset_value_min AS float) AS reset_value_min,
    CAST(t.reset_value_max AS float) AS reset_value_max,
    t.forecast_after
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
INNER JOIN dbo.alert_thresholds AS t ON t.sensor_id = s.id
WHERE t.is_active = 1
ORDER BY t.id;
