-- Every device, including deleted ones, once for each of its sensors.
SELECT
    d.id AS device_id,
    d.device_uuid,
    d.name AS device,
    d.device_type,
    d.status,
    s.id AS sensor_id,
    s.sensor_uuid,
    s.sensor_type,
    s.name AS sensor,
    s.unit,
    s.is_active
FROM dbo.devices AS d
LEFT JOIN dbo.sensors AS s ON s.device_id = d.id
ORDER BY d.id, s.id;
