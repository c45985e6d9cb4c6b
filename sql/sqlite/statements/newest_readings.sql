-- Readings without an event time count by the time they were stored.
SELECT
    r.sensor_id,
    r.id,
    cast(strftime('%s', substr(r.event_timestamp, 1, 19)) AS INTEGER) * 1000000
    + cast(substr(substr(r.event_timestamp, 21) || '000', 1, 6) AS INTEGER) AS ts,
    r.seq,
    r.value
FROM json_each(?1) AS s
INNER JOIN sensor_readings AS r ON r.id IN (
    SELECT d.id FROM sensor_readings AS d
    WHERE d.sensor_id = s.value AND d.event_timestamp IS NOT NULL
    ORDER BY d.event_timestamp DESC, d.seq DESC
    LIMIT ?2
)
UNION ALL
SELECT
    r.sensor_id,
    r.id,
    cast(strftime('%s', substr(r.timestamp, 1, 19)) AS INTEGER) * 1000000
    + cast(substr(substr(r.timestamp, 21) || '000', 1, 6) AS INTEGER),
    -1,
    r.value
FROM json_each(?1) AS s
INNER JOIN sensor_readings AS r ON r.id IN (
    SELECT d.id FROM sensor_readings AS d
    WHERE d.sensor_id = s.value AND d.event_timestamp IS NULL
    ORDER BY d.timestamp DESC, d.id DESC
    LIMIT ?2
);
