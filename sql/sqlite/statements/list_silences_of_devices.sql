SELECT
    id,
    no_data_after_seconds
FROM devices
WHERE no_data_after_seconds IS NOT NULL
ORDER BY id;
