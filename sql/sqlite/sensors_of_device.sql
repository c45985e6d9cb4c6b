-- ?1: device_uuid. No row: no such device. One row with a null sensor: a device without any.
SELECT d.id, s.sensor_uuid, s.id
FROM devices AS d
LEFT JOIN sensors AS s ON s.device_id = d.id AND s.is_active = 1
WHERE d.device_uuid = ?1 COLLATE NOCASE AND d.status NOT IN ('deleted', 'revoked', 'suspended');
