INSERT INTO devices (device_uuid, name, device_type) VALUES (?1, ?2, ?3)
ON CONFLICT (device_uuid) DO NOTHING;
