-- Older installations may have decimal columns.
SELECT
    id,
    sensor_id,
    CAST(abs_delta AS float) AS abs_delta,
    CAST(rel_delta AS float) AS rel_delta,
    CAST(abs_slope AS float) AS abs_slope,
    CAST(rel_slope AS float) AS rel_slope,
    severity,
    min_readings,
    raise_after,
    clear_after
FROM dbo.delta_thresholds
WHERE is_active = 1
ORDER BY id;
