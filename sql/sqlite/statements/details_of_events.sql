SELECT
    e.id,
    e.event_key,
    e.incident_key,
    e.event_type,
    e.event_code,
    e.title,
    e.message,
    e.status,
    e.operator_note,
    e.device_id,
    d.name AS device,
    e.sensor_id,
    s.name AS sensor,
    s.unit,
    e.acknowledged_by,
    k.username AS acknowledged_by_name,
    e.resolved_by,
    u.username AS resolved_by_name,
    n.id AS notification_id,
    n.is_read,
    n.triggered_value AS value,
    cast(round((julianday(e.created_at) - 2440587.5) * 86400000) AS INTEGER) AS at,
    cast(round((julianday(e.acknowledged_at) - 2440587.5) * 86400000) AS INTEGER)
        AS acknowledged_at,
    cast(round((julianday(e.resolved_at) - 2440587.5) * 86400000) AS INTEGER) AS resolved_at,
    cast(round((julianday(n.read_at) - 2440587.5) * 86400000) AS INTEGER) AS read_at
FROM json_each(?1) AS r
INNER JOIN ml_events AS e ON e.id = r.value
INNER JOIN devices AS d ON d.id = e.device_id
LEFT JOIN sensors AS s ON s.id = e.sensor_id
LEFT JOIN users AS k ON k.id = e.acknowledged_by
LEFT JOIN users AS u ON u.id = e.resolved_by
LEFT JOIN alert_notifications AS n
    ON
        n.id = (
            SELECT max(m.id) FROM alert_notifications AS m
            WHERE m.source = 'ml_event' AND m.source_event_id = e.id
        )
ORDER BY e.created_at, e.id;
