-- What the back end reads, by these names and columns. Only what stands counts as active: `active`
-- and `acknowledged`. What was deleted is left out, except from what has happened.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
-- it reads another view, so it goes first
IF OBJECT_ID(N'dbo.v_sensor_consolidated_status', N'V') IS NOT NULL
DROP VIEW dbo.v_sensor_consolidated_status;
GO
IF OBJECT_ID(N'dbo.v_devices_with_sensors', N'V') IS NOT NULL DROP VIEW dbo.v_devices_with_sensors;
GO
CREATE VIEW dbo.v_devices_with_sensors
AS
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
    s.status AS sensor_status
FROM dbo.devices AS d
LEFT JOIN dbo.sensors AS s ON s.device_id = d.id AND s.is_deleted = 0
WHERE d.status <> 'deleted';
GO
IF OBJECT_ID(N'dbo.v_latest_sensor_readings', N'V') IS NOT NULL
DROP VIEW dbo.v_latest_sensor_readings;
GO
-- One row a sensor. Of a sensor that has sent nothing since the newest values are kept, the newest
-- that was stored before.
CREATE VIEW dbo.v_latest_sensor_readings
AS
SELECT
    s.id AS sensor_id,
    s.sensor_uuid,
    s.name AS sensor_name,
    s.sensor_type,
    s.unit,
    d.name AS device_name,
    d.id AS device_id,
    d.device_uuid,
    s.operational_state,
    s.valid_readings_count,
    s.min_readings_for_normal,
    s.state_changed_at,
    CAST(
        CASE WHEN s.operational_state IN ('INITIALIZING', 'STALE') THEN 0 ELSE 1 END AS bit
    ) AS can_generate_events,
    COALESCE(l.latest_value, r.value) AS latest_value,
    COALESCE(l.latest_timestamp, r.[timestamp]) AS latest_timestamp
FROM dbo.sensors AS s
INNER JOIN dbo.devices AS d ON d.id = s.device_id
LEFT JOIN dbo.sensor_readings_latest AS l ON l.sensor_id = s.id
OUTER APPLY (
    SELECT TOP (1) o.value, o.[timestamp]
    FROM dbo.sensor_readings AS o
    WHERE o.sensor_id = s.id AND l.sensor_id IS NULL
    ORDER BY o.[timestamp] DESC, o.id DESC
) AS r
WHERE s.is_deleted = 0 AND d.status <> 'deleted';
GO
IF OBJECT_ID(N'dbo.v_active_alerts', N'V') IS NOT NULL DROP VIEW dbo.v_active_alerts;
GO
CREATE VIEW dbo.v_active_alerts
AS
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
FROM dbo.alerts AS a
INNER JOIN dbo.sensors AS s ON s.id = a.sensor_id
INNER JOIN dbo.devices AS d ON d.id = a.device_id
LEFT JOIN dbo.alert_thresholds AS t ON t.id = a.threshold_id
WHERE a.status IN ('active', 'acknowledged');
GO
IF OBJECT_ID(N'dbo.v_alerts_history', N'V') IS NOT NULL DROP VIEW dbo.v_alerts_history;
GO
CREATE VIEW dbo.v_alerts_history
AS
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
FROM dbo.alerts AS a
INNER JOIN dbo.sensors AS s ON s.id = a.sensor_id
INNER JOIN dbo.devices AS d ON d.id = a.device_id
LEFT JOIN dbo.alert_thresholds AS t ON t.id = a.threshold_id
LEFT JOIN dbo.users AS k ON k.id = a.acknowledged_by
LEFT JOIN dbo.users AS r ON r.id = a.resolved_by;
GO
IF OBJECT_ID(N'dbo.v_ml_events_active', N'V') IS NOT NULL DROP VIEW dbo.v_ml_events_active;
GO
CREATE VIEW dbo.v_ml_events_active
AS
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
FROM dbo.ml_events AS e
INNER JOIN dbo.devices AS d ON d.id = e.device_id
LEFT JOIN dbo.sensors AS s ON s.id = e.sensor_id
-- no value for a time that has passed, which would look like a forecast; a deviation tells what had
-- been forecast
LEFT JOIN dbo.predictions AS p
    ON
        p.id = e.prediction_id
        AND (p.target_timestamp > SYSUTCDATETIME() OR e.event_code = 'PREDICTION_DEVIATION')
WHERE e.status IN ('active', 'acknowledged');
GO
IF OBJECT_ID(N'dbo.v_device_profile_summary', N'V') IS NOT NULL
DROP VIEW dbo.v_device_profile_summary;
GO
CREATE VIEW dbo.v_device_profile_summary
AS
SELECT
    d.id AS device_id,
    d.device_uuid,
    d.name AS device_name,
    d.device_type,
    d.status,
    d.last_connection,
    (
        SELECT COUNT(*) FROM dbo.sensors AS s
        WHERE s.device_id = d.id AND s.is_deleted = 0
    ) AS sensor_count,
    (
        SELECT COUNT(*) FROM dbo.alerts AS a
        WHERE a.device_id = d.id AND a.status IN ('active', 'acknowledged')
    ) AS active_alerts,
    (
        SELECT MAX(a.triggered_at) FROM dbo.alerts AS a
        WHERE a.device_id = d.id
    ) AS last_alert_at
FROM dbo.devices AS d
WHERE d.status <> 'deleted';
GO
IF OBJECT_ID(N'dbo.v_device_timeline', N'V') IS NOT NULL DROP VIEW dbo.v_device_timeline;
GO
-- `event_type` is `alert` or `ml_event`, as the sources of notifications are; the payload is JSON.
CREATE VIEW dbo.v_device_timeline
AS
SELECT
    'alert' AS event_type,
    a.device_id,
    a.sensor_id,
    a.triggered_at AS occurred_at,
    a.severity,
    CAST(CONCAT(s.name, N': ', COALESCE(t.name, N'perfil')) AS nvarchar(600)) AS title,
    (
        SELECT a.id AS alert_id, a.status, a.triggered_value, s.unit
        FOR JSON PATH, WITHOUT_ARRAY_WRAPPER
    ) AS payload
FROM dbo.alerts AS a
INNER JOIN dbo.sensors AS s ON s.id = a.sensor_id
LEFT JOIN dbo.alert_thresholds AS t ON t.id = a.threshold_id
UNION ALL
SELECT
    'ml_event',
    e.device_id,
    e.sensor_id,
    e.created_at,
    CASE WHEN e.event_type IN ('critical', 'warning') THEN e.event_type ELSE 'info' END,
    CAST(e.title AS nvarchar(600)),
    e.payload
FROM dbo.ml_events AS e
WHERE e.status <> 'superseded';
GO
-- `active_alert` is the worst that stands, and of those the newest; `active_warning` the newest
-- event of the flow that warns. An alert outweighs everything else in `final_state`.
CREATE VIEW dbo.v_sensor_consolidated_status
AS
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
    CAST(CASE WHEN a.id IS NULL THEN 0 ELSE 1 END AS bit) AS has_active_alert,
    CAST(CASE WHEN e.id IS NULL THEN 0 ELSE 1 END AS bit) AS has_active_warning,
    CASE
        WHEN a.severity = 'critical' THEN 'ALERT'
        WHEN a.severity = 'warning' THEN 'WARNING'
        WHEN q.latest_timestamp IS NULL THEN 'UNKNOWN'
        WHEN
            q.operational_state = 'STALE'
            OR DATEDIFF_BIG(millisecond, q.latest_timestamp, SYSUTCDATETIME())
            > COALESCE(p.stale_threshold_ms, 86400000)
            THEN 'STALE'
        WHEN q.operational_state = 'INITIALIZING' THEN 'INITIALIZING'
        WHEN e.id IS NOT NULL THEN 'WARNING'
        ELSE 'NORMAL'
    END AS final_state,
    DATEDIFF_BIG(second, q.latest_timestamp, SYSUTCDATETIME()) AS seconds_since_last_reading
FROM dbo.v_latest_sensor_readings AS q
LEFT JOIN dbo.sensor_threshold_profiles AS p ON p.sensor_id = q.sensor_id
OUTER APPLY (
    SELECT TOP (1) b.id, b.severity, b.triggered_value, b.triggered_at
    FROM dbo.alerts AS b
    WHERE b.sensor_id = q.sensor_id AND b.status IN ('active', 'acknowledged')
    ORDER BY
        CASE b.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
        b.triggered_at DESC,
        b.id DESC
) AS a
OUTER APPLY (
    SELECT TOP (1) f.id, f.event_code, f.title, f.created_at
    FROM dbo.ml_events AS f
    WHERE
        f.sensor_id = q.sensor_id
        AND f.status IN ('active', 'acknowledged')
        AND f.event_type IN ('warning', 'critical')
    ORDER BY f.created_at DESC, f.id DESC
) AS e;
GO
