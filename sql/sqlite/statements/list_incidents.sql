-- What is open, of any age, and what has an event since `begin`. An event without incident_key is
-- an incident of its own.
WITH picked AS (
    SELECT e.id, e.incident_key
    FROM ml_events AS e
    WHERE e.status IN ('active', 'acknowledged')
    UNION
    SELECT e.id, e.incident_key
    FROM ml_events AS e
    WHERE e.created_at >= ?1 AND e.status <> 'superseded'
),

incidents AS (
    SELECT
        e.incident_key,
        NULL AS single_id,
        min(e.created_at) AS began,
        max(coalesce(e.resolved_at, e.created_at)) AS ended,
        max(CASE e.event_type WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END) AS level,
        count(*) AS events,
        max(CASE WHEN e.status = 'active' THEN e.id END) AS active_id,
        max(CASE WHEN e.status = 'acknowledged' THEN e.id END) AS acknowledged_id
    FROM ml_events AS e
    WHERE
        e.incident_key IN (SELECT p.incident_key FROM picked AS p)
        AND e.status <> 'superseded'
    GROUP BY e.incident_key
    UNION ALL
    SELECT
        e.incident_key,
        e.id,
        e.created_at,
        coalesce(e.resolved_at, e.created_at),
        CASE e.event_type WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END,
        1,
        CASE WHEN e.status = 'active' THEN e.id END,
        CASE WHEN e.status = 'acknowledged' THEN e.id END
    FROM picked AS p
    INNER JOIN ml_events AS e ON e.id = p.id
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
    SELECT
        q.incident_key,
        q.began,
        q.ended,
        q.level,
        q.events,
        q.active_id,
        q.acknowledged_id,
        q.urgency,
        coalesce(
            q.single_id,
            (
                SELECT f.id
                FROM ml_events AS f
                WHERE f.incident_key = q.incident_key AND f.status <> 'superseded'
                ORDER BY f.created_at, f.id
                LIMIT 1
            )
        ) AS first_id
    FROM ranked AS q
    ORDER BY q.urgency DESC, q.began DESC, q.incident_key DESC, q.single_id DESC
    LIMIT ?2
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
    cast(round((julianday(t.began) - 2440587.5) * 86400000) AS INTEGER) AS began,
    cast(round((julianday(t.ended) - 2440587.5) * 86400000) AS INTEGER) AS ended,
    (
        SELECT count(*) FROM alert_notifications AS n
        WHERE
            n.incident_key = t.incident_key
            AND n.is_read = 0
    ) + (
        SELECT count(*) FROM alert_notifications AS n
        WHERE
            t.incident_key IS NULL
            AND n.source = 'ml_event'
            AND n.source_event_id = t.first_id
            AND n.is_read = 0
    ) AS unread
FROM shown AS t
INNER JOIN ml_events AS f ON f.id = t.first_id
INNER JOIN devices AS d ON d.id = f.device_id
LEFT JOIN sensors AS s ON s.id = f.sensor_id
ORDER BY t.urgency DESC, t.began DESC, t.first_id DESC;
