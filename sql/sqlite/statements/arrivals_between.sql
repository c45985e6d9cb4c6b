-- The event times limit the search, because they have an index.
SELECT
    cast(strftime('%s', substr(r.timestamp, 1, 19)) AS INTEGER) * 1000
    + cast(substr(r.timestamp, 21, 3) AS INTEGER) AS received_at,
    count(*) AS readings
FROM sensors AS s
INNER JOIN sensor_readings AS r ON r.sensor_id = s.id
WHERE
    s.device_id = ?1
    AND (?2 IS NULL OR s.id = ?2)
    AND r.event_timestamp >= strftime('%Y-%m-%d %H:%M:%f', ?3 / 1000.0, 'unixepoch')
    AND r.event_timestamp < strftime('%Y-%m-%d %H:%M:%f', ?4 / 1000.0, 'unixepoch')
    AND r.timestamp <= strftime('%Y-%m-%d %H:%M:%f', ?5 / 1000.0, 'unixepoch')
GROUP BY r.timestamp
ORDER BY r.timestamp DESC
LIMIT ?6;
