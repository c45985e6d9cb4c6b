SELECT
    d.device_uuid,
    d.name AS device,
    s.sensor_uuid,
    s.name AS sensor,
    s.sensor_type,
    s.unit,
    s.id AS sensor_id
FROM devices AS d
LEFT JOIN sensors AS s ON s.device_id = d.id AND s.is_active = 1
WHERE ?1 IS NULL OR d.name = ?1
ORDER BY d.name, d.id, s.id;
