-- Views that take the place of those in views.sql. That script stays as it is: programs of version
-- 0.1 that still run accept only their own text of it.
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
-- no value for a time that has passed, which would look like a forecast; a deviation tells what had
-- been forecast
LEFT JOIN predictions AS p
    ON
        p.id = e.prediction_id
        AND (
            p.target_timestamp > strftime('%Y-%m-%d %H:%M:%f', 'now')
            OR e.event_code = 'PREDICTION_DEVIATION'
        )
WHERE e.status IN ('active', 'acknowledged');

-- The state of a sensor that is past its warm-up, by the alerts that stand.
DROP VIEW IF EXISTS v_alert_states;
CREATE VIEW v_alert_states AS
SELECT
    s.id AS sensor_id,
    CASE (
        SELECT max(CASE a.severity WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 END)
        FROM alerts AS a
        WHERE a.sensor_id = s.id AND a.status IN ('active', 'acknowledged')
    )
        WHEN 2 THEN 'ALERT'
        WHEN 1 THEN 'WARNING'
        ELSE 'NORMAL'
    END AS state
FROM sensors AS s;
