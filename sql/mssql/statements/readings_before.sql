DECLARE @sensor bigint = ?, @until bigint = ?, @most int = ?;
DECLARE @before datetime2(3) = DATEADD(millisecond, CAST(@until % 1000 AS int),
    DATEADD(second, CAST(@until / 1000 % 86400 AS int),
        DATEADD(day, CAST(@until / 86400000 AS int), CAST('1970-01-01' AS datetime2(3)))));
SELECT TOP (@most)
    r.seq,
    CAST(r.value AS float) AS value,
    DATEDIFF_BIG(MICROSECOND, '1970-01-01', r.event_timestamp) AS ts,
    DATEDIFF_BIG(MICROSECOND, '1970-01-01', r.[timestamp]) AS received_at
FROM dbo.sensor_readings AS r
WHERE r.sensor_id = @sensor AND r.event_timestamp IS NOT NULL AND r.event_timestamp < @before
ORDER BY r.event_timestamp DESC, r.seq DESC;
