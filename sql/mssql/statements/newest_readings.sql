DECLARE @ids nvarchar(max) = ?, @most int = ?;
SELECT
    s.id AS sensor_id,
    d.id,
    DATEDIFF_BIG(MICROSECOND, '1970-01-01', d.event_timestamp) AS ts,
    d.seq,
    CAST(d.value AS float) AS value
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
CROSS APPLY (
    SELECT TOP (@most) r.id, r.event_timestamp, r.seq, r.value
    FROM dbo.sensor_readings AS r
    WHERE r.sensor_id = s.id AND r.event_timestamp IS NOT NULL
    ORDER BY r.event_timestamp DESC, r.seq DESC
) AS d
UNION ALL
SELECT
    s.id,
    d.id,
    DATEDIFF_BIG(MICROSECOND, '1970-01-01', d.[timestamp]),
    -1,
    CAST(d.value AS float)
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
CROSS APPLY (
    SELECT TOP (@most) r.id, r.[timestamp], r.value
    FROM dbo.sensor_readings AS r
    WHERE r.sensor_id = s.id AND r.event_timestamp IS NULL
    ORDER BY r.[timestamp] DESC, r.id DESC
) AS d;
