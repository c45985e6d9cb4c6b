-- ?1 sensor ids (JSON).
SELECT
    t.id,
    t.sensor_id,
    t.name,
    t.condition_type,
    t.threshold_value_min,
    t.threshold_value_max,
    t.severity,
    t.consecutive_readings,
    t.clear_after,
    t.reset_value_min,
    t.reset_value_max,
    t.forecast_after
FROM json_each(?1) AS s
INNER JOIN alert_thresholds AS t ON t.sensor_id = s.value
WHERE t.is_active = 1
ORDER BY t.id;
