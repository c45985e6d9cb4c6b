-- ?1 sensor_id, ?2 event time before which, ?3 how many at most. The newest ones, newest first;
-- times in epoch milliseconds.
SELECT
    r.seq,
    r.value,
    cast(round((julianday(r.event_timestamp) - 2440587.5) * 86400000) AS INTEGER),
    cast(round((julianday(r.timestamp) - 2440587.5) * 86400000) AS INTEGER)
FROM sensor_readings AS r
WHERE
    r.sensor_id = ?1
    AND r.event_timestamp < strftime('%Y-%m-%d %H:%M:%f', ?2 / 1000.0, 'unixepoch')
ORDER BY r.event_timestamp DESC, r.seq DESC
LIMIT ?3;
