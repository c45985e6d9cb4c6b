SELECT
    id,
    no_data_after_seconds
FROM sensors
WHERE no_data_after_seconds IS NOT NULL
ORDER BY id;
