DECLARE @sensor bigint = ?;
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
FROM dbo.sensors AS s
INNER JOIN dbo.devices AS d ON d.id = s.device_id
LEFT JOIN dbo.ml_models AS m ON m.id = (
    SELECT TOP (1) n.id FROM dbo.ml_models AS n
    WHERE n.sensor_id = @sensor AND n.is_active = 1 AND n.model_type <> 'detector'
    ORDER BY n.trained_at DESC, n.id DESC
)
WHERE
    s.id = @sensor
    AND s.is_active = 1
    AND s.is_deleted = 0
    AND d.status NOT IN ('deleted', 'revoked', 'suspended');
