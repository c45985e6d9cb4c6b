-- ?1, ?2: the first, and the first beyond, of the keys looked for. A few of them, newest first;
-- times in epoch milliseconds.
SELECT
    e.event_key,
    e.event_type,
    e.event_code,
    e.title,
    e.message,
    e.status,
    e.payload,
    e.device_id,
    d.name,
    e.sensor_id,
    s.name,
    s.unit,
    cast(round((julianday(e.created_at) - 2440587.5) * 86400000) AS INTEGER),
    cast(round((julianday(e.resolved_at) - 2440587.5) * 86400000) AS INTEGER)
FROM ml_events AS e
INNER JOIN devices AS d ON d.id = e.device_id
LEFT JOIN sensors AS s ON s.id = e.sensor_id
WHERE e.event_key >= ?1 AND e.event_key < ?2
ORDER BY e.created_at DESC, e.id DESC
LIMIT 5;
