-- ?1, ?2: the first, and the first later, time as text. The events with a key, each with the first
-- event of the same sensor (or device) that happened at its end, and with its notification.
SELECT
    e.id,
    e.event_key,
    e.device_id,
    e.sensor_id,
    e.event_type,
    e.event_code,
    e.title,
    e.message,
    e.payload,
    e.status,
    e.resolved_by,
    n.is_read,
    n.triggered_value,
    cast(round((julianday(e.created_at) - 2440587.5) * 86400000) AS INTEGER),
    cast(round((julianday(e.resolved_at) - 2440587.5) * 86400000) AS INTEGER),
    (
        SELECT min(o.id)
        FROM ml_events AS o
        WHERE
            o.created_at = e.resolved_at
            AND (
                o.sensor_id = e.sensor_id
                OR (e.sensor_id IS NULL AND o.sensor_id IS NULL AND o.device_id = e.device_id)
            )
    )
FROM ml_events AS e
LEFT JOIN alert_notifications AS n
    ON n.event_key = e.event_key AND n.source = 'ml_event'
WHERE e.created_at >= ?1 AND e.created_at < ?2 AND e.event_key IS NOT NULL
ORDER BY e.created_at, e.event_key;
