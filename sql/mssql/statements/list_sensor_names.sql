SELECT s.id AS sensor_id, s.name, s.sensor_type AS type, s.unit, s.device_id, d.name AS device
FROM dbo.sensors AS s
INNER JOIN dbo.devices AS d ON d.id = s.device_id
ORDER BY s.id;
