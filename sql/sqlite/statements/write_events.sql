-- Rows of `EventRow` in sinks/events.py. Writes the event, its notification, and the end of the
-- event that it resolves, all or nothing. The notification of a silent event is marked as read. The
-- notification of an event that escalates takes the place of the earlier ones of its incident.
--
-- A new event may also change the alerts of its sensor. The stored rows decide what it changes, in
-- the same transaction: an event that is written again changes nothing, and the alerts that other
-- programs have raised count too. Events change alerts one after the other, which needs a trigger.
-- An alert that was raised within the cooldown before an event stands again instead of a new one,
-- unless a person has resolved it.
CREATE TEMP TABLE IF NOT EXISTS alert_changes (
    event_key TEXT NOT NULL PRIMARY KEY,
    incident_key TEXT,
    sensor_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    at TEXT NOT NULL,
    value REAL,
    level INTEGER NOT NULL,
    severity TEXT,
    threshold_id INTEGER,
    late INTEGER NOT NULL,
    cooldown_from TEXT NOT NULL
);

CREATE TEMP TRIGGER IF NOT EXISTS change_alerts
AFTER INSERT ON alert_changes
WHEN new.late = 0
BEGIN
    UPDATE alerts
    SET
        status = CASE WHEN acknowledged_at IS NULL THEN 'active' ELSE 'acknowledged' END,
        resolved_at = NULL
    WHERE
        id = (
            SELECT a.id FROM alerts AS a
            WHERE
                a.sensor_id = new.sensor_id
                AND a.severity = new.severity
                AND a.triggered_at > new.cooldown_from
                AND a.is_late = 0
            ORDER BY a.triggered_at DESC, a.id DESC
            LIMIT 1
        )
        AND status = 'resolved'
        AND resolved_by IS NULL
        AND NOT EXISTS (
            SELECT 1 FROM alerts AS a
            WHERE
                a.sensor_id = new.sensor_id
                AND a.severity = new.severity
                AND a.status IN ('active', 'acknowledged')
        );

    INSERT INTO alerts (
        event_key, incident_key, threshold_id, sensor_id, device_id, severity, triggered_value,
        triggered_at
    )
    SELECT
        new.event_key,
        new.incident_key,
        new.threshold_id,
        new.sensor_id,
        new.device_id,
        new.severity,
        new.value,
        new.at
    WHERE
        new.level > 0
        AND NOT EXISTS (
            SELECT 1 FROM alerts AS a
            WHERE
                a.sensor_id = new.sensor_id
                AND a.severity = new.severity
                AND a.status IN ('active', 'acknowledged')
        )
        AND NOT EXISTS (
            SELECT 1 FROM alerts AS a
            WHERE
                a.sensor_id = new.sensor_id
                AND a.severity = new.severity
                AND a.triggered_at > new.cooldown_from
                AND a.is_late = 0
        );

    -- a warning stays where the critical alert may not be raised again yet
    UPDATE alerts
    SET status = 'resolved', resolved_at = new.at
    WHERE
        sensor_id = new.sensor_id
        AND status IN ('active', 'acknowledged')
        AND severity IS NOT new.severity
        AND (
            new.level < 2
            OR EXISTS (
                SELECT 1 FROM alerts AS a
                WHERE
                    a.sensor_id = new.sensor_id
                    AND a.severity = new.severity
                    AND a.status IN ('active', 'acknowledged')
            )
        );

    UPDATE sensors
    SET operational_state = v.state, state_changed_at = new.at
    FROM v_alert_states AS v
    WHERE
        sensors.id = new.sensor_id
        AND v.sensor_id = sensors.id
        AND sensors.operational_state NOT IN ('INITIALIZING', 'STALE', v.state);
END;

DELETE FROM alert_changes;

INSERT INTO alert_changes
SELECT
    n.event_key,
    n.incident_key,
    n.sensor_id,
    n.device_id,
    n.at,
    n.value,
    n.level,
    CASE n.level WHEN 2 THEN 'critical' WHEN 1 THEN 'warning' END,
    t.id, -- the row may be gone
    n.late,
    strftime(
        '%Y-%m-%d %H:%M:%f', n.at, '-' || coalesce(p.cooldown_seconds, 300) || ' seconds'
    )
FROM (
    SELECT
        json_extract(r.value, '$[0]') AS event_key,
        json_extract(r.value, '$[13]') AS incident_key,
        json_extract(r.value, '$[2]') AS sensor_id,
        json_extract(r.value, '$[1]') AS device_id,
        json_extract(r.value, '$[3]') AS at,
        json_extract(r.value, '$[8]') AS value,
        json_extract(r.value, '$[15]') AS level,
        json_extract(r.value, '$[16]') AS threshold_id,
        json_extract(r.value, '$[18]') AS late,
        r.key
    FROM json_each(?1) AS r
) AS n
LEFT JOIN alert_thresholds AS t ON t.id = n.threshold_id
LEFT JOIN sensor_threshold_profiles AS p ON p.sensor_id = n.sensor_id
WHERE
    n.level IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM ml_events AS e WHERE e.event_key = n.event_key)
ORDER BY n.at, n.key;

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

-- the alert of a late event ends with it
INSERT INTO alerts (
    event_key, incident_key, threshold_id, sensor_id, device_id, severity, status, triggered_value,
    triggered_at, resolved_at, is_late
)
SELECT
    c.event_key,
    c.incident_key,
    c.threshold_id,
    c.sensor_id,
    c.device_id,
    c.severity,
    'resolved',
    c.value,
    c.at,
    c.at,
    1
FROM alert_changes AS c
WHERE c.late = 1 AND c.level > 0
ORDER BY c.at, c.event_key;

UPDATE alerts
SET resolved_at = r.at
FROM (
    SELECT
        json_extract(j.value, '$[3]') AS at,
        json_extract(j.value, '$[10]') AS resolves
    FROM json_each(?1) AS j
) AS r
WHERE alerts.event_key = r.resolves AND alerts.is_late = 1;

-- one incident rings once: that is the notification of its event
INSERT INTO alert_notifications (
    source, source_event_id, severity, title, message, is_read, created_at, read_at, sensor_id,
    device_id, triggered_value, event_type, incident_key
)
SELECT
    'alert',
    a.id,
    a.severity,
    json_extract(r.value, '$[17]'),
    json_extract(r.value, '$[7]'),
    1,
    a.triggered_at,
    a.triggered_at,
    a.sensor_id,
    a.device_id,
    a.triggered_value,
    a.severity,
    a.incident_key
FROM json_each(?1) AS r
INNER JOIN alert_changes AS c ON c.event_key = json_extract(r.value, '$[0]')
INNER JOIN alerts AS a ON a.event_key = c.event_key
ORDER BY a.id;
