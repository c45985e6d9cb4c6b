-- Whether the time has passed is for the reader to say. One that is no time has passed.
SELECT
    k.api_key_hash,
    d.device_uuid,
    iif(
        k.expires_at IS NULL, NULL, coalesce(cast(strftime('%s', k.expires_at) AS INTEGER), 0)
    ) AS expires_at
FROM device_api_keys AS k
INNER JOIN devices AS d ON d.id = k.device_id
WHERE k.is_active = 1 AND k.revoked_at IS NULL;
