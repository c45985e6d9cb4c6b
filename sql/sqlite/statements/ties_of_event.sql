-- The events of the same sensor (or device) that ended when this one began, and those that began
-- when this one ended. Their codes show which of them belong together.
SELECT
    o.event_key,
    o.event_code,
    o.created_at < e.created_at AS is_before
FROM ml_events AS e
INNER JOIN ml_events AS o
    ON
        (o.resolved_at = e.created_at AND o.created_at < e.created_at)
        OR (o.created_at = e.resolved_at AND o.created_at > e.created_at)
WHERE
    e.event_key = ?1
    AND o.event_key IS NOT NULL
    AND (
        o.sensor_id = e.sensor_id
        OR (e.sensor_id IS NULL AND o.sensor_id IS NULL AND o.device_id = e.device_id)
    )
ORDER BY o.id;
