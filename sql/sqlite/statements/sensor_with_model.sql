-- The active model is the one trained last that is not a detector.
SELECT
    s.id,
    s.device_id,
    s.name,
    s.sensor_type AS type,
    s.unit,
    d.name AS device,
    m.id AS model_id,
    m.model_type,
    m.metadata
FROM sensors AS s
INNER JOIN devices AS d ON d.id = s.device_id
LEFT JOIN ml_models AS m ON m.id = (
    SELECT n.id FROM ml_models AS n
    WHERE n.sensor_id = ?1 AND n.is_active = 1 AND n.model_type <> 'detector'
    ORDER BY n.trained_at DESC, n.id DESC
    LIMIT 1
)
WHERE
    s.id = ?1 AND s.is_active = 1 AND d.status NOT IN ('deleted', 'revoked', 'suspended');
