-- For each sensor: its newest active detector, and its newest other active model unless that is the
-- baseline.
SELECT r.id, r.sensor_id, r.model_type, r.metadata, r.trained_at
FROM (
    SELECT
        m.id,
        m.sensor_id,
        m.model_type,
        m.metadata,
        m.trained_at,
        ROW_NUMBER() OVER (
            PARTITION BY m.sensor_id, CASE m.model_type WHEN 'detector' THEN 1 ELSE 0 END
            ORDER BY m.trained_at DESC, m.id DESC
        ) AS age
    FROM ml_models AS m
    WHERE m.is_active = 1
) AS r
WHERE r.age = 1 AND r.model_type <> 'baseline'
ORDER BY r.id;
