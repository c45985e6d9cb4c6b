SELECT
    o.event_key,
    o.event_code,
    CASE WHEN o.created_at < e.created_at THEN 1 ELSE 0 END AS is_before
FROM dbo.ml_events AS e
INNER JOIN dbo.ml_events AS o
    ON
        (o.resolved_at = e.created_at AND o.created_at < e.created_at)
        OR (o.created_at = e.resolved_at AND o.created_at > e.created_at)
WHERE
    e.event_key = ?
    AND o.event_key IS NOT NULL
    AND (
        o.sensor_id = e.sensor_id
        OR (e.sensor_id IS NULL AND o.sensor_id IS NULL AND o.device_id = e.device_id)
    )
ORDER BY o.id;
