SELECT
    id,
    sensor_id,
    CAST(warning_min AS float) AS warning_min,
    CAST(warning_max AS float) AS warning_max,
    CAST(alert_min AS float) AS alert_min,
    CAST(alert_max AS float) AS alert_max
FROM dbo.sensor_threshold_profiles
ORDER BY id;
