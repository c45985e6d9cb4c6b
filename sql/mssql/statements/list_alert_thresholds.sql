SELECT
    id,
    sensor_id,
    name,
    condition_type,
    CAST(threshold_value_min AS float),
    CAST(threshold_value_max AS float),
    severity,
    consecutive_readings,
    clear_after,
    CAST(reset_value_min AS float),
    CAST(reset_value_max AS float),
    forecast_after
FROM dbo.alert_thresholds
WHERE is_active = 1
ORDER BY id;
