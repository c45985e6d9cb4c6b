SELECT
    n.period_ms,
    n.sensor_id,
    n.bucket,
    CAST(CAST(AVG(n.value) AS decimal(15, 5)) AS float) AS mean,
    CAST(MIN(n.value) AS float) AS minimum,
    CAST(MAX(n.value) AS float) AS maximum,
    CAST(MAX(CASE WHEN n.newest = 1 THEN n.value END) AS float) AS last_value,
    COUNT(*) AS samples
FROM (
    SELECT
        b.period_ms,
        r.sensor_id,
        b.bucket,
        r.value,
        ROW_NUMBER() OVER (
            PARTITION BY b.period_ms, b.sensor_id, b.bucket
            ORDER BY r.event_timestamp DESC, r.id DESC
        ) AS newest
    FROM OPENJSON (?) WITH (
        period_ms int '$[0]',
        sensor_id bigint '$[1]',
        bucket varchar(23) '$[2]',
        bucket_end varchar(23) '$[3]'
    ) AS b
    INNER JOIN dbo.sensor_readings AS r
        ON
            r.sensor_id = b.sensor_id
            AND r.event_timestamp >= CAST(b.bucket AS datetime2(6))
            AND r.event_timestamp < CAST(b.bucket_end AS datetime2(6))
            AND r.event_timestamp IS NOT NULL -- as the index says
) AS n
GROUP BY n.period_ms, n.sensor_id, n.bucket;
