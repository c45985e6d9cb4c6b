SELECT
    r.seq,
    r.value,
    cast(strftime('%s', substr(r.event_timestamp, 1, 19)) AS INTEGER) * 1000000
    + cast(substr(substr(r.event_timestamp, 21) || '000', 1, 6) AS INTEGER) AS ts,
    cast(strftime('%s', substr(r.timestamp, 1, 19)) AS INTEGER) * 1000000
    + cast(substr(substr(r.timestamp, 21) || '000', 1, 6) AS INTEGER) AS received_at
FROM sensor_readings AS r
WHERE
    r.sensor_id = ?1
    AND r.event_timestamp < strftime('%Y-%m-%d %H:%M:%f', ?2 / 1000.0, 'unixepoch')
ORDER BY r.event_timestamp DESC, r.seq DESC
LIMIT ?3;
