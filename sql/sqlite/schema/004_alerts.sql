-- Alerts: what stands between a reading that is beyond a bound and somebody who looks.

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL UNIQUE CHECK (length(username) <= 100),
    email TEXT NOT NULL UNIQUE CHECK (length(email) <= 255),
    password_hash TEXT NOT NULL CHECK (length(password_hash) <= 255),
    role TEXT NOT NULL DEFAULT 'viewer',
    is_active INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at TEXT
);

CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    threshold_id INTEGER REFERENCES alert_thresholds (id),
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    device_id INTEGER NOT NULL REFERENCES devices (id),
    severity TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'active',
    triggered_value REAL NOT NULL,
    triggered_at TEXT NOT NULL,
    acknowledged_at TEXT,
    acknowledged_by INTEGER REFERENCES users (id),
    resolved_at TEXT,
    resolved_by INTEGER REFERENCES users (id)
);

CREATE UNIQUE INDEX ux_alerts_active ON alerts (sensor_id, severity) WHERE status = 'active';
CREATE INDEX ix_alerts_sensor ON alerts (sensor_id, severity, triggered_at);
CREATE INDEX ix_alerts_standing ON alerts (sensor_id) WHERE status IN ('active', 'acknowledged');
CREATE INDEX ix_alert_notifications_source ON alert_notifications (source, source_event_id);

ALTER TABLE sensors ADD COLUMN operational_state TEXT NOT NULL DEFAULT 'INITIALIZING';
ALTER TABLE sensors ADD COLUMN valid_readings_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sensors ADD COLUMN min_readings_for_normal INTEGER NOT NULL DEFAULT 10;
ALTER TABLE sensors ADD COLUMN state_changed_at TEXT;

-- What a reading must not be: below `low`, above `high`, or `equal_to`; level 2 is critical, 1 a
-- warning. Rows that make no sense bound nothing.
CREATE VIEW v_threshold_bounds AS
SELECT
    t.sensor_id,
    t.id AS threshold_id,
    t.name,
    CASE t.severity WHEN 'critical' THEN 2 ELSE 1 END AS level,
    CASE
        WHEN t.condition_type IN ('less_than', 'out_of_range') THEN t.threshold_value_min
    END AS low,
    CASE t.condition_type
        WHEN 'greater_than' THEN t.threshold_value_min
        WHEN 'out_of_range' THEN t.threshold_value_max
    END AS high,
    CASE t.condition_type WHEN 'equal_to' THEN t.threshold_value_min END AS equal_to
FROM alert_thresholds AS t
WHERE
    t.is_active = 1
    AND t.severity IN ('warning', 'critical')
    AND (t.condition_type <> 'out_of_range' OR t.threshold_value_min <= t.threshold_value_max)
UNION ALL
SELECT p.sensor_id, NULL, 'perfil', 1, p.warning_min, p.warning_max, NULL
FROM sensor_threshold_profiles AS p
UNION ALL
SELECT p.sensor_id, NULL, 'perfil', 2, p.alert_min, p.alert_max, NULL
FROM sensor_threshold_profiles AS p;
