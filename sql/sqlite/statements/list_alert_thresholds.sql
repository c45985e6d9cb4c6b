SELECT
    id,
    sensor_id,
    name,
    condition_type,
    threshold_value_min,
    threshold_value_max,
    severity,
    consecutive_readings,
    clear_after,
    reset_value_min,
    reset_value_max,
    forecast_after
FROM alert_thresholds
WHERE is_active = 1
ORDER BY id;
