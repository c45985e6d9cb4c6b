SELECT
    id,
    sensor_id,
    abs_delta,
    rel_delta,
    abs_slope,
    rel_slope,
    severity,
    min_readings,
    raise_after,
    clear_after
FROM delta_thresholds
WHERE is_active = 1
ORDER BY id;
