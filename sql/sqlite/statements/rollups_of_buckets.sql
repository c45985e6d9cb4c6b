-- Rows of `StaleRow` in sinks/stale.py. Returns their rollups, computed from the stored readings.
SELECT
    n.period_ms,
    n.sensor_id,
    n.bucket,
    round(avg(n.value), 5) AS mean,
    min(n.value) AS minimum,
    max(n.value) AS maximum,
    max(CASE WHEN n.newest = 1 THEN n.value END) AS last_value,
    count(*) AS samples
FROM (
    SELECT
        r.sensor_id,
        r.value,
        json_extract(b.value, '$[0]') AS period_ms,
        json_extract(b.value, '$[2]') AS bucket,
        row_number() OVER (
            PARTITION BY b.key ORDER BY r.event_timestamp DESC, r.id DESC
        ) AS newest
    FROM json_each(?1) AS b
    INNER JOIN sensor_readings AS r
        ON
            r.sensor_id = json_extract(b.value, '$[1]')
            AND r.event_timestamp >= json_extract(b.value, '$[2]')
            AND r.event_timestamp < json_extract(b.value, '$[3]')
) AS n
GROUP BY n.period_ms, n.sensor_id, n.bucket;
