-- Rows of `EventRow` in sinks/events.py. Writes the event, its notification, and the end of the
-- event that it resolves, all or nothing. The notification of a silent event is marked as read. The
-- notification of an event that escalates takes the place of the earlier ones of its incident.
INSERT INTO ml_events (
    event_key, device_id, sensor_id, created_at, event_type, event_code, title, message, payload,
    status, resolved_at, incident_key
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
    END,
    json_extract(r.value, '$[13]')
FROM json_each(?1) AS r
WHERE true
ON CONFLICT (event_key) WHERE event_key IS NOT NULL DO NOTHING;

INSERT INTO alert_notifications (
    event_key, source, source_event_id, severity, title, message, is_read, created_at, read_at,
    sensor_id, device_id, triggered_value, event_type, incident_key
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
    e.event_type,
    e.incident_key
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

UPDATE alert_notifications
SET is_read = 1, read_at = r.at
FROM (
    SELECT
        json_extract(j.value, '$[0]') AS event_key,
        json_extract(j.value, '$[3]') AS at,
        json_extract(j.value, '$[13]') AS incident_key
    FROM json_each(?1) AS j
    WHERE json_extract(j.value, '$[14]')
) AS r
WHERE
    alert_notifications.incident_key = r.incident_key
    AND alert_notifications.event_key <> r.event_key
    AND alert_notifications.created_at <= r.at
    AND alert_notifications.is_read = 0;
