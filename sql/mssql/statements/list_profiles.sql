SELECT
    id,
    sensor_id,
    CAST(warning_min AS float),
    CAST(warning_max AS float),
    CAST(alert_min AS float),
    CAST(alert_max AS float)
FROM dbo.sensor_threshold_profiles
ORDER BY id;
