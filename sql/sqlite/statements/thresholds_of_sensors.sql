-- ?1 sensor ids (JSON). What their values must not be, profiles too, those of a sensor by id.
SELECT
    t.sensor_id,
    t.id,
    t.name,
    t.condition_type,
    t.threshold_value_min,
    t.threshold_value_max,
    t.severity
FROM json_each(?1) AS s
INNER JOIN alert_thresholds AS t ON t.sensor_id = s.value
WHERE t.is_active = 1
UNION ALL
SELECT p.sensor_id, NULL, 'profile', 'out_of_range', p.warning_min, p.warning_max, 'warning'
FROM json_each(?1) AS s
INNER JOIN sensor_threshold_profiles AS p ON p.sensor_id = s.value
UNION ALL
SELECT p.sensor_id, NULL, 'profile', 'out_of_range', p.alert_min, p.alert_max, 'critical'
FROM json_each(?1) AS s
INNER JOIN sensor_threshold_profiles AS p ON p.sensor_id = s.value
ORDER BY 1, 2;
