-- What the back end reads, as on SQL Server. Sensors and devices are not deleted here, and a sensor
-- has no status of its own.
DROP VIEW IF EXISTS v_devices_with_sensors;
CREATE VIEW v_devices_with_sensors AS
SELECT
    d.id AS device_id,
    d.device_uuid,
    d.name AS device_name,
    d.device_type,
    d.status AS device_status,
    d.last_connection,
    s.id AS sensor_id,
    s.sensor_uuid,
    s.sensor_type,
    s.name AS sensor_name,
    s.unit,
    s.is_active AS sensor_active,
    CASE WHEN s.id IS NOT NULL THEN 'online' END AS sensor_status
FROM devices AS d
LEFT JOIN sensors AS s ON s.device_id = d.id
WHERE d.status <> 'deleted';

DROP VIEW IF EXISTS v_latest_sensor_readings;
CREATE VIEW v_latest_sensor_readings AS
SELECT
    s.id AS sensor_id,
    s.sensor_uuid,
    s.name AS sensor_name,
    s.sensor_type,
    s.unit,
    d.name AS device_name,
    l.latest_value,
    l.latest_timestamp,
    d.id AS device_id,
    d.device_uuid,
    s.operational_state,
    s.valid_readings_count,
    s.min_readings_for_normal,
    s.state_changed_at,
    s.operational_state NOT IN ('INITIALIZING', 'STALE') AS can_generate_events
FROM sensors AS s
INNER JOIN devices AS d ON d.id = s.device_id
LEFT JOIN sensor_readings_latest AS l ON l.sensor_id = s.id
WHERE d.status <> 'deleted';

DROP VIEW IF EXISTS v_active_alerts;
CREATE VIEW v_active_alerts AS
SELECT
    a.id AS alert_id,
    a.severity,
    a.status,
    a.triggered_value,
    a.triggered_at,
    d.name AS device_name,
    d.device_uuid,
    s.name AS sensor_name,
    s.sensor_type,
    s.unit,
    t.name AS threshold_name,
    t.condition_type,
    t.threshold_value_min,
    t.threshold_value_max,
    a.sensor_id,
    a.device_id,
    s.operational_state
FROM alerts AS a
INNER JOIN sensors AS s ON s.id = a.sensor_id
INNER JOIN devices AS d ON d.id = a.device_id
LEFT JOIN alert_thresholds AS t ON t.id = a.threshold_id
WHERE a.status IN ('active', 'acknowledged');

DROP VIEW IF EXISTS v_alerts_history;
CREATE VIEW v_alerts_history AS
SELECT
    a.id AS alert_id,
    a.device_id,
    d.device_uuid,
    d.name AS device_name,
    a.sensor_id,
    s.name AS sensor_name,
    s.sensor_type,
    s.unit,
    a.threshold_id,
    t.name AS threshold_name,
    t.condition_type,
    t.threshold_value_min,
    t.threshold_value_max,
    a.severity,
    a.status,
    a.triggered_value,
    a.triggered_at,
    a.acknowledged_at,
    a.acknowledged_by,
    k.username AS acknowledged_by_username,
    a.resolved_at,
    a.resolved_by,
    r.username AS resolved_by_username
FROM alerts AS a
INNER JOIN sensors AS s ON s.id = a.sensor_id
INNER JOIN devices AS d ON d.id = a.device_id
LEFT JOIN alert_thresholds AS t ON t.id = a.threshold_id
LEFT JOIN users AS k ON k.id = a.acknowledged_by
LEFT JOIN users AS r ON r.id = a.resolved_by;

DROP VIEW IF EXISTS v_ml_events_active;
CREATE VIEW v_ml_events_active AS
SELECT
    e.id AS event_id,
    e.event_type,
    e.event_code,
    e.title,
    e.message,
    e.status,
    e.created_at,
    e.device_id,
    d.device_uuid,
    d.name AS device_name,
    e.sensor_id,
    s.name AS sensor_name,
    s.sensor_type,
    s.unit,
    e.prediction_id,
    p.predicted_value,
    p.confidence,
    p.target_timestamp,
    e.payload,
    s.operational_state
FROM ml_events AS e
INNER JOIN devices AS d ON d.id = e.device_id
LEFT JOIN sensors AS s ON s.id = e.sensor_id
LEFT JOIN predictions AS p ON p.id = e.prediction_id
WHERE e.status IN ('active', 'acknowledged');

DROP VIEW IF EXISTS v_device_profile_summary;
CREATE VIEW v_device_profile_summary AS
SELECT
    d.id AS device_id,
    d.device_uuid,
    d.name AS device_name,
    d.device_type,
    d.status,
    d.last_connection,
    (SELECT count(*) FROM sensors AS s WHERE s.device_id = d.id) AS sensor_count,
    (
        SELECT count(*) FROM alerts AS a
        WHERE a.device_id = d.id AND a.status IN ('active', 'acknowledged')
    ) AS active_alerts,
    (SELECT max(a.triggered_at) FROM alerts AS a WHERE a.device_id = d.id) AS last_alert_at
FROM devices AS d
WHERE d.status <> 'deleted';

-- `event_type` is `alert` or `ml_event`, as the sources of notifications are; the payload is JSON.
DROP VIEW IF EXISTS v_device_timeline;
CREATE VIEW v_device_timeline AS
SELECT
    'alert' AS event_type,
    a.device_id,
    a.sensor_id,
    a.triggered_at AS occurred_at,
    a.severity,
    s.name || ': ' || coalesce(t.name, 'perfil') AS title,
    json_object(
        'alert_id', a.id,
        'status', a.status,
        'triggered_value', a.triggered_value,
        'unit', s.unit
    ) AS payload
FROM alerts AS a
INNER JOIN sensors AS s ON s.id = a.sensor_id
LEFT JOIN alert_thresholds AS t ON t.id = a.threshold_id
UNION ALL
SELECT
    'ml_event',
    e.device_id,
    e.sensor_id,
    e.created_at,
    CASE WHEN e.event_type IN ('critical', 'warning') THEN e.event_type ELSE 'info' END,
    e.title,
    e.payload
FROM ml_events AS e
WHERE e.status <> 'superseded';

-- `active_alert` is the worst that stands, and of those the newest; `active_warning` the newest
-- event of the flow that warns. An alert outweighs everything else in `final_state`.
DROP VIEW IF EXISTS v_sensor_consolidated_status;
CREATE VIEW v_sensor_consolidated_status AS
SELECT
    q.sensor_id,
    q.sensor_uuid,
    q.sensor_name,
    q.sensor_type,
    q.unit,
    q.device_id,
    q.device_name,
    q.device_uuid,
    q.latest_value,
    q.latest_timestamp,
    q.operational_state,
    q.valid_readings_count,
    q.min_readings_for_normal,
    a.id AS active_alert_id,
    a.severity AS alert_severity,
    a.triggered_value AS alert_triggered_value,
    a.triggered_at AS alert_triggered_at,
    e.id AS active_warning_id,
    e.event_code AS warning_event_code,
    e.title AS warning_title,
    e.created_at AS warning_created_at,
    q.can_generate_events,
    cast(strftime('%s', 'now') - strftime('%s', q.latest_timestamp) AS INTEGER)
        AS seconds_since_last_reading,
    CASE
        WHEN a.severity = 'critical' THEN 'ALERT'
        WHEN a.severity = 'warning' THEN 'WARNING'
        WHEN q.latest_timestamp IS NULL THEN 'UNKNOWN'
        WHEN
            q.operational_state = 'STALE'
            OR (julianday('now') - julianday(q.latest_timestamp)) * 86400000
            > coalesce(p.stale_threshold_ms, 86400000)
            THEN 'STALE'
        WHEN q.operational_state = 'INITIALIZING' THEN 'INITIALIZING'
        WHEN e.id IS NOT NULL THEN 'WARNING'
        ELSE 'NORMAL'
    END AS final_state,
    a.id IS NOT NULL AS has_active_alert,
    e.id IS NOT NULL AS has_active_warning
FROM v_latest_sensor_readings AS q
LEFT JOIN sensor_threshold_profiles AS p ON p.sensor_id = q.sensor_id
LEFT JOIN alerts AS a
    ON
        a.id = (
            SELECT b.id
            FROM alerts AS b
            WHERE b.sensor_id = q.sensor_id AND b.status IN ('active', 'acknowledged')
            ORDER BY
                CASE b.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
                b.triggered_at DESC,
                b.id DESC
            LIMIT 1
        )
LEFT JOIN ml_events AS e
    ON
        e.id = (
            SELECT f.id
            FROM ml_events AS f
            WHERE
                f.sensor_id = q.sensor_id
                AND f.status IN ('active', 'acknowledged')
                AND f.event_type IN ('warning', 'critical')
            ORDER BY f.created_at DESC, f.id DESC
            LIMIT 1
        );
