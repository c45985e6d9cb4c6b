SELECT
    id,
    sensor_id,
    name,
    span_seconds,
    rise_per_minute,
    fall_per_minute,
    severity,
    raise_after,
    clear_after
FROM rate_thresholds
WHERE is_active = 1
ORDER BY id;
