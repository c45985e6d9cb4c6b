SELECT d.id AS device_id, s.sensor_uuid, s.id AS sensor_id
FROM dbo.devices AS d
LEFT JOIN dbo.sensors AS s ON s.device_id = d.id AND s.is_active = 1
WHERE d.device_uuid = ? AND d.status NOT IN ('deleted', 'revoked', 'suspended');
