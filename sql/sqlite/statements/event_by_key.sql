SELECT
    e.id,
    e.event_key,
    e.event_type,
    e.event_code,
    e.title,
    e.message,
    e.payload,
    e.status,
    e.resolved_by,
    e.device_id,
    d.name AS device,
    e.sensor_id,
    s.name AS sensor,
    s.unit,
    n.is_read,
    e.incident_key,
    n.triggered_value AS value,
    cast(round((julianday(e.created_at) - 2440587.5) * 86400000) AS INTEGER) AS at,
    cast(round((julianday(e.resolved_at) - 2440587.5) * 86400000) AS INTEGER) AS resolved_at,
    (
        SELECT min(o.id)
        FROM ml_events AS o
        WHERE
            o.created_at = e.resolved_at
            AND (
                o.sensor_id = e.sensor_id
                OR (e.sensor_id IS NULL AND o.sensor_id IS NULL AND o.device_id = e.device_id)
            )
    ) AS ended_by
FROM ml_events AS e
INNER JOIN devices AS d ON d.id = e.device_id
LEFT JOIN sensors AS s ON s.id = e.sensor_id
LEFT JOIN alert_notifications AS n
    ON n.event_key = e.event_key AND n.source = 'ml_event'
WHERE e.event_key >= ?1 AND e.event_key < ?2
ORDER BY e.created_at DESC, e.id DESC
LIMIT 5;
