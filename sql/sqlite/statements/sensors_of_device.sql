-- ?1: device_uuid. No row: no such device. One row with a null sensor: a device without any.
SELECT d.id, s.sensor_uuid, s.id
FROM devices AS d
LEFT JOIN sensors AS s ON s.device_id = d.id AND s.is_active = 1
WHERE lower(d.device_uuid) = lower(?1) AND d.status NOT IN ('deleted', 'revoked', 'suspended');
