INSERT INTO sensors (device_id, sensor_uuid, sensor_type, name, unit)
SELECT d.id, ?2, ?3, ?4, ?5
FROM devices AS d
WHERE d.device_uuid = ?1
ON CONFLICT (sensor_uuid) DO NOTHING;
