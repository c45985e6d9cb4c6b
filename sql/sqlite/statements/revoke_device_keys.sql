UPDATE device_api_keys
SET is_active = 0, revoked_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE
    revoked_at IS NULL
    AND device_id = (SELECT d.id FROM devices AS d WHERE d.device_uuid = ?1);
