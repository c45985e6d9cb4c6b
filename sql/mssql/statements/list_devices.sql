DECLARE @name varchar(255) = ?;
SELECT
    d.device_uuid,
    d.name AS device,
    s.sensor_uuid,
    s.name AS sensor,
    s.sensor_type,
    s.unit,
    s.id AS sensor_id
FROM dbo.devices AS d
LEFT JOIN dbo.sensors AS s ON s.device_id = d.id AND s.is_active = 1
WHERE @name IS NULL OR d.name = @name
ORDER BY d.name, d.id, s.id;
