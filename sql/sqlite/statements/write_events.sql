-- Rows of `EventRow` in sinks/events.py. Writes the event, its notification, and the end of the
-- event that it resolves, all or nothing. The notification of a silent event is marked as read.
INSERT INTO ml_events (
    event_key, device_id, sensor_id, created_at, event_type, event_code, title, message, payload,
    status, resolved_at
)
SELECT
    json_extract(r.value, '$[0]'),
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[3]'),
    json_extract(r.value, '$[4]'),
    json_extract(r.value, '$[5]'),
    json_extract(r.value, '$[6]'),
    json_extract(r.value, '$[7]'),
    json_extract(r.value, '$[9]'),
    json_extract(r.value, '$[11]'),
    CASE
        WHEN json_extract(r.value, '$[11]') = 'resolved'
            THEN json_extract(r.value, '$[3]')
    END
FROM json_each(?1) AS r
WHERE true
ON CONFLICT (event_key) WHERE event_key IS NOT NULL DO NOTHING;

INSERT INTO alert_notifications (
    event_key, source, source_event_id, severity, title, message, is_read, created_at, read_at,
    sensor_id, device_id, triggered_value, event_type
)
SELECT
    e.event_key,
    'ml_event',
    e.id,
    e.event_type,
    e.title,
    e.message,
    json_extract(r.value, '$[12]'),
    e.created_at,
    CASE WHEN json_extract(r.value, '$[12]') THEN e.created_at END,
    e.sensor_id,
    e.device_id,
    json_extract(r.value, '$[8]'),
    e.event_type
FROM json_each(?1) AS r
INNER JOIN ml_events AS e ON e.event_key = json_extract(r.value, '$[0]')
WHERE true
ON CONFLICT (event_key) WHERE event_key IS NOT NULL DO NOTHING;

UPDATE ml_events
SET
    status = 'resolved',
    resolved_at = (
        SELECT json_extract(r.value, '$[3]')
        FROM json_each(?1) AS r
        WHERE json_extract(r.value, '$[10]') = ml_events.event_key
    )
WHERE
    status NOT IN ('resolved', 'superseded')
    AND event_key IN (SELECT json_extract(r.value, '$[10]') FROM json_each(?1) AS r);
