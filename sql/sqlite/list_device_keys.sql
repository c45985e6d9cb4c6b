-- expires_at in epoch seconds; whether it has passed is for the reader to say.
SELECT k.api_key_hash, d.device_uuid, cast(strftime('%s', k.expires_at) AS INTEGER)
FROM device_api_keys AS k
INNER JOIN devices AS d ON d.id = k.device_id
WHERE k.is_active = 1 AND k.revoked_at IS NULL;
