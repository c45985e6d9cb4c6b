SELECT id, sensor_id, warning_min, warning_max, alert_min, alert_max
FROM sensor_threshold_profiles
ORDER BY id;
