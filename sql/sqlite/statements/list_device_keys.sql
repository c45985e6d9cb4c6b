-- The caller checks whether a key has expired. An invalid time counts as expired.
SELECT
    k.api_key_hash,
    d.device_uuid,
    iif(
        k.expires_at IS NULL, NULL, coalesce(cast(strftime('%s', k.expires_at) AS INTEGER), 0)
    ) AS expires_at
FROM device_api_keys AS k
INNER JOIN devices AS d ON d.id = k.device_id
WHERE k.is_active = 1 AND k.revoked_at IS NULL;
