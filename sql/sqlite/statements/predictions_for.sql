SELECT
    m.model_name,
    p.window_points,
    p.predicted_value AS value,
    p.confidence,
    cast(round((julianday(p.predicted_at) - 2440587.5) * 86400000) AS INTEGER) AS predicted_at
FROM predictions AS p
INNER JOIN ml_models AS m ON m.id = p.model_id
WHERE
    p.sensor_id = ?1
    AND p.target_timestamp = strftime('%Y-%m-%d %H:%M:%f', ?2 / 1000.0, 'unixepoch')
ORDER BY p.id;
