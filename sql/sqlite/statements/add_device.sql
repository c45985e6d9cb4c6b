-- ?1 device_uuid, ?2 name, ?3 device_type
INSERT INTO devices (device_uuid, name, device_type) VALUES (?1, ?2, ?3)
ON CONFLICT (device_uuid) DO NOTHING;
