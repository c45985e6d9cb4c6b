SELECT TOP (5)
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
    CAST(n.triggered_value AS float) AS value,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', e.created_at) AS at,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', e.resolved_at) AS resolved_at,
    (
        SELECT MIN(o.id)
        FROM dbo.ml_events AS o
        WHERE
            o.status IN ('active', 'acknowledged', 'resolved', 'superseded') -- as the index says
            AND o.created_at = e.resolved_at
            AND (
                o.sensor_id = e.sensor_id
                OR (e.sensor_id IS NULL AND o.sensor_id IS NULL AND o.device_id = e.device_id)
            )
    ) AS ended_by
FROM dbo.ml_events AS e
INNER JOIN dbo.devices AS d ON d.id = e.device_id
LEFT JOIN dbo.sensors AS s ON s.id = e.sensor_id
LEFT JOIN dbo.alert_notifications AS n
    ON n.event_key = e.event_key AND n.source = 'ml_event'
WHERE e.event_key >= ? AND e.event_key < ?
ORDER BY e.created_at DESC, e.id DESC;
