-- Rows of `CorrectionRow` in sinks/corrections.py: corrections that a replay makes to events.
-- Events with status 'superseded' are no longer valid. Of the others, missing events are inserted.
-- Stored events get the new texts, and the new status and end if `ends` is set or they were
-- superseded. Events that a user has resolved stay resolved. The notification of an event that is
-- inserted, or valid again, is marked as read if the event is silent. The alert of an event that is
-- no longer valid is resolved at the end of that event, or at its time if it has not ended.
CREATE TEMP TABLE IF NOT EXISTS corrections (
    event_key TEXT NOT NULL PRIMARY KEY,
    device_id INTEGER,
    sensor_id INTEGER,
    at TEXT,
    event_type TEXT,
    event_code TEXT,
    title TEXT,
    message TEXT,
    value REAL,
    payload TEXT,
    resolved_at TEXT,
    status TEXT NOT NULL,
    silent INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    incident_key TEXT NOT NULL
);

DELETE FROM corrections;

INSERT INTO corrections
SELECT
    json_extract(r.value, '$[0]'),
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[3]'),
    json_extract(r.value, '$[4]'),
    json_extract(r.value, '$[5]'),
    json_extract(r.value, '$[6]'),
    json_extract(r.value, '$[7]'),
    json_extract(r.value, '$[8]'),
    json_extract(r.value, '$[9]'),
    json_extract(r.value, '$[10]'),
    json_extract(r.value, '$[11]'),
    json_extract(r.value, '$[12]'),
    json_extract(r.value, '$[13]'),
    json_extract(r.value, '$[14]')
FROM json_each(?1) AS r;

UPDATE alert_notifications
SET
    is_read = n.silent,
    read_at = CASE WHEN n.silent THEN strftime('%Y-%m-%d %H:%M:%f', 'now') END
FROM corrections AS n
INNER JOIN ml_events AS e ON e.event_key = n.event_key
WHERE
    n.event_key = alert_notifications.event_key
    AND n.status <> 'superseded'
    AND e.status = 'superseded';

UPDATE alert_notifications
SET is_read = 1, read_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
FROM corrections AS n
WHERE
    n.event_key = alert_notifications.event_key
    AND n.status = 'superseded'
    AND alert_notifications.is_read = 0;

UPDATE alerts
SET status = 'resolved', resolved_at = coalesce(n.resolved_at, n.at)
FROM corrections AS n
WHERE
    n.event_key = alerts.event_key
    AND n.status = 'superseded'
    AND alerts.status IN ('active', 'acknowledged');

UPDATE sensors
SET operational_state = v.state, state_changed_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
FROM v_alert_states AS v
WHERE
    v.sensor_id = sensors.id
    AND sensors.id IN (SELECT n.sensor_id FROM corrections AS n WHERE n.status = 'superseded')
    AND sensors.operational_state NOT IN ('INITIALIZING', 'STALE', v.state);

UPDATE ml_events
SET
    status = CASE
        WHEN n.status = 'superseded' THEN 'superseded'
        WHEN ml_events.resolved_by IS NOT NULL THEN 'resolved'
        WHEN n.status = 'active' AND ml_events.acknowledged_at IS NOT NULL THEN 'acknowledged'
        ELSE n.status
    END,
    resolved_at = CASE
        WHEN n.status = 'superseded' OR ml_events.resolved_by IS NOT NULL
            THEN ml_events.resolved_at
        ELSE n.resolved_at
    END
FROM corrections AS n
WHERE
    n.event_key = ml_events.event_key
    AND (n.ends OR n.status = 'superseded' OR ml_events.status = 'superseded');

UPDATE ml_events
SET
    event_type = n.event_type,
    title = n.title,
    message = n.message,
    payload = n.payload,
    incident_key = n.incident_key
FROM corrections AS n
WHERE n.event_key = ml_events.event_key AND n.status <> 'superseded';

INSERT INTO ml_events (
    event_key, device_id, sensor_id, created_at, event_type, event_code, title, message, payload,
    status, resolved_at, incident_key
)
SELECT
    n.event_key,
    n.device_id,
    n.sensor_id,
    n.at,
    n.event_type,
    n.event_code,
    n.title,
    n.message,
    n.payload,
    n.status,
    n.resolved_at,
    n.incident_key
FROM corrections AS n
WHERE n.status <> 'superseded'
ORDER BY n.at, n.event_key
ON CONFLICT (event_key) WHERE event_key IS NOT NULL DO NOTHING;

UPDATE alert_notifications
SET
    severity = n.event_type,
    title = n.title,
    message = n.message,
    triggered_value = n.value,
    event_type = n.event_type,
    incident_key = n.incident_key
FROM corrections AS n
WHERE n.event_key = alert_notifications.event_key AND n.status <> 'superseded';

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
    n.silent,
    e.created_at,
    CASE WHEN n.silent THEN e.created_at END,
    e.sensor_id,
    e.device_id,
    n.value,
    e.event_type,
    e.incident_key
FROM corrections AS n
INNER JOIN ml_events AS e ON e.event_key = n.event_key
WHERE n.status <> 'superseded'
ORDER BY e.id
ON CONFLICT (event_key) WHERE event_key IS NOT NULL DO NOTHING;
