SELECT
    id,
    no_data_after_seconds
FROM dbo.sensors
WHERE no_data_after_seconds IS NOT NULL
ORDER BY id;
