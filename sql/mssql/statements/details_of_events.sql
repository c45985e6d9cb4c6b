DECLARE @ids nvarchar(max) = ?;
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
    CAST(n.triggered_value AS float) AS value,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', e.created_at) AS at,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', e.acknowledged_at) AS acknowledged_at,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', e.resolved_at) AS resolved_at,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', n.read_at) AS read_at
FROM OPENJSON (@ids) WITH (id bigint '$') AS r
INNER JOIN dbo.ml_events AS e ON e.id = r.id
INNER JOIN dbo.devices AS d ON d.id = e.device_id
LEFT JOIN dbo.sensors AS s ON s.id = e.sensor_id
LEFT JOIN dbo.users AS k ON k.id = e.acknowledged_by
LEFT JOIN dbo.users AS u ON u.id = e.resolved_by
LEFT JOIN dbo.alert_notifications AS n
    ON
        n.id = (
            SELECT MAX(m.id) FROM dbo.alert_notifications AS m
            WHERE m.source = 'ml_event' AND m.source_event_id = e.id
        )
ORDER BY e.created_at, e.id;
