SELECT k.api_key_hash, d.device_uuid, DATEDIFF_BIG(SECOND, '1970-01-01', k.expires_at) AS expires_at
FROM dbo.device_api_keys AS k
INNER JOIN dbo.devices AS d ON d.id = k.device_id
WHERE k.is_active = 1 AND k.revoked_at IS NULL;
