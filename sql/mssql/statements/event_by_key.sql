SELECT TOP (5)
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
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', e.created_at),
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', e.resolved_at)
FROM dbo.ml_events AS e
INNER JOIN dbo.devices AS d ON d.id = e.device_id
LEFT JOIN dbo.sensors AS s ON s.id = e.sensor_id
WHERE e.event_key >= ? AND e.event_key < ?
ORDER BY e.created_at DESC, e.id DESC;
