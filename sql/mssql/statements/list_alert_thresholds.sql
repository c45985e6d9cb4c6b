SELECT
    id,
    sensor_id,
    name,
    condition_type,
    CAST(threshold_value_min AS float) AS threshold_value_min,
    CAST(threshold_value_max AS float) AS threshold_value_max,
    severity,
    consecutive_readings,
    clear_after,
    CAST(reset_value_min AS float) AS reset_value_min,
    CAST(reset_value_max AS float) AS reset_value_max,
    forecast_after
FROM dbo.alert_thresholds
WHERE is_active = 1
ORDER BY id;
