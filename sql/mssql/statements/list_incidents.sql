-- What is open, of any age, and what has an event since `begin`. An event without incident_key is
-- an incident of its own.
DECLARE @begin datetime2(3) = ?, @most int = ?;
WITH picked AS (
    SELECT e.id, e.incident_key
    FROM dbo.ml_events AS e
    WHERE e.status IN ('active', 'acknowledged')
    UNION
    SELECT e.id, e.incident_key
    FROM dbo.ml_events AS e
    WHERE e.created_at >= @begin AND e.status <> 'superseded'
),

incidents AS (
    SELECT
        e.incident_key,
        CAST(NULL AS bigint) AS single_id,
        MIN(e.created_at) AS began,
        MAX(COALESCE(e.resolved_at, e.created_at)) AS ended,
        MAX(CASE e.event_type WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END) AS level,
        COUNT(*) AS events,
        MAX(CASE WHEN e.status = 'active' THEN e.id END) AS active_id,
        MAX(CASE WHEN e.status = 'acknowledged' THEN e.id END) AS acknowledged_id
    FROM dbo.ml_events AS e
    WHERE
        e.incident_key IN (SELECT p.incident_key FROM picked AS p)
        AND e.incident_key IS NOT NULL -- as the index says
        AND e.status <> 'superseded'
    GROUP BY e.incident_key
    UNION ALL
    SELECT
        e.incident_key,
        e.id,
        e.created_at,
        COALESCE(e.resolved_at, e.created_at),
        CASE e.event_type WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END,
        1,
        CASE WHEN e.status = 'active' THEN e.id END,
        CASE WHEN e.status = 'acknowledged' THEN e.id END
    FROM picked AS p
    INNER JOIN dbo.ml_events AS e ON e.id = p.id
    WHERE p.incident_key IS NULL
),

ranked AS (
    SELECT
        i.incident_key,
        i.single_id,
        i.began,
        i.ended,
        i.level,
        i.events,
        i.active_id,
        i.acknowledged_id,
        CASE
            WHEN i.active_id IS NOT NULL THEN 20 + i.level
            WHEN i.acknowledged_id IS NOT NULL THEN 10 + i.level
            ELSE 0
        END AS urgency
    FROM incidents AS i
),

shown AS (
    SELECT TOP (@most)
        q.incident_key,
        q.began,
        q.ended,
        q.level,
        q.events,
        q.active_id,
        q.acknowledged_id,
        q.urgency,
        COALESCE(
            q.single_id,
            (
                SELECT TOP (1) f.id
                FROM dbo.ml_events AS f
                WHERE
                    f.incident_key = q.incident_key
                    AND f.incident_key IS NOT NULL
                    AND f.status <> 'superseded'
                ORDER BY f.created_at, f.id
            )
        ) AS first_id
    FROM ranked AS q
    ORDER BY q.urgency DESC, q.began DESC, q.incident_key DESC, q.single_id DESC
)

SELECT
    t.incident_key,
    t.first_id,
    t.active_id,
    t.acknowledged_id,
    t.level,
    t.events,
    f.device_id,
    d.name AS device,
    f.sensor_id,
    s.name AS sensor,
    f.title,
    f.message,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', t.began) AS began,
    DATEDIFF_BIG(MILLISECOND, '1970-01-01', t.ended) AS ended,
    (
        SELECT COUNT(*) FROM dbo.alert_notifications AS n
        WHERE
            n.incident_key = t.incident_key
            AND n.incident_key IS NOT NULL
            AND n.is_read = 0
    ) + (
        SELECT COUNT(*) FROM dbo.alert_notifications AS n
        WHERE
            t.incident_key IS NULL
            AND n.source = 'ml_event'
            AND n.source_event_id = t.first_id
            AND n.is_read = 0
    ) AS unread
FROM shown AS t
INNER JOIN dbo.ml_events AS f ON f.id = t.first_id
INNER JOIN dbo.devices AS d ON d.id = f.device_id
LEFT JOIN dbo.sensors AS s ON s.id = f.sensor_id
ORDER BY t.urgency DESC, t.began DESC, t.first_id DESC;
