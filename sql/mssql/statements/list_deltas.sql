-- An older installation may have decimals.
SELECT
    id,
    sensor_id,
    CAST(abs_delta AS float),
    CAST(rel_delta AS float),
    CAST(abs_slope AS float),
    CAST(rel_slope AS float),
    severity,
    min_readings,
    raise_after,
    clear_after
FROM dbo.delta_thresholds
WHERE is_active = 1
ORDER BY id;
