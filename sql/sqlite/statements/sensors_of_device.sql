SELECT d.id AS device_id, s.sensor_uuid, s.id AS sensor_id
FROM devices AS d
LEFT JOIN sensors AS s ON s.device_id = d.id AND s.is_active = 1
WHERE lower(d.device_uuid) = lower(?1) AND d.status NOT IN ('deleted', 'revoked', 'suspended');
