SELECT s.id, s.name, s.sensor_type, s.unit, s.device_id, d.name
FROM dbo.sensors AS s
INNER JOIN dbo.devices AS d ON d.id = s.device_id
ORDER BY s.id;
