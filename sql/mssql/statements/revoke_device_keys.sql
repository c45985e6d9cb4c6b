UPDATE dbo.device_api_keys
SET is_active = 0, revoked_at = SYSUTCDATETIME()
WHERE
    revoked_at IS NULL
    AND device_id = (SELECT d.id FROM dbo.devices AS d WHERE d.device_uuid = ?);
