-- ?1 sensor ids (JSON).
SELECT
    t.id,
    t.sensor_id,
    t.warning_min,
    t.warning_max,
    t.alert_min,
    t.alert_max
FROM json_each(?1) AS s
INNER JOIN sensor_threshold_profiles AS t ON t.sensor_id = s.value
ORDER BY t.id;
