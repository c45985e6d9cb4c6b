DECLARE
    @device bigint = ?,
    @sensor bigint = ?,
    @from bigint = ?,
    @until bigint = ?,
    @received bigint = ?,
    @most int = ?;
DECLARE @epoch datetime2(3) = '1970-01-01T00:00:00.000';
SELECT TOP (@most)
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', r.[timestamp]) AS received_at,
    COUNT_BIG(*) AS readings
FROM dbo.sensors AS s
INNER JOIN dbo.sensor_readings AS r ON r.sensor_id = s.id
WHERE
    s.device_id = @device
    AND (@sensor IS NULL OR s.id = @sensor)
    AND r.event_timestamp IS NOT NULL
    AND r.event_timestamp >= DATEADD(millisecond, CAST(@from % 1000 AS int),
        DATEADD(second, CAST(@from / 1000 % 86400 AS int),
            DATEADD(day, CAST(@from / 86400000 AS int), @epoch)))
    AND r.event_timestamp < DATEADD(millisecond, CAST(@until % 1000 AS int),
        DATEADD(second, CAST(@until / 1000 % 86400 AS int),
            DATEADD(day, CAST(@until / 86400000 AS int), @epoch)))
    AND r.[timestamp] <= DATEADD(millisecond, CAST(@received % 1000 AS int),
        DATEADD(second, CAST(@received / 1000 % 86400 AS int),
            DATEADD(day, CAST(@received / 86400000 AS int), @epoch)))
GROUP BY r.[timestamp]
ORDER BY r.[timestamp] DESC;
