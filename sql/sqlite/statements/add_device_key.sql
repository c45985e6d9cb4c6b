INSERT INTO device_api_keys (device_id, api_key_hash, key_name)
SELECT d.id, ?2, ?3 FROM devices AS d WHERE d.device_uuid = ?1;
