-- The tables of SQL Server's schema that the pipeline uses, with SQLite's types.
-- Times are text, 'YYYY-MM-DD HH:MM:SS.mmm' in UTC, so that they sort and read well.

CREATE TABLE schema_migrations (
    name TEXT NOT NULL PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

CREATE TABLE devices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device_uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL CHECK (length(name) <= 255),
    device_type TEXT NOT NULL CHECK (length(device_type) <= 100),
    status TEXT NOT NULL DEFAULT 'offline',
    last_connection TEXT,
    metadata TEXT,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at TEXT
);

CREATE TABLE sensors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id INTEGER NOT NULL REFERENCES devices (id),
    sensor_uuid TEXT NOT NULL UNIQUE,
    sensor_type TEXT NOT NULL CHECK (length(sensor_type) <= 100),
    name TEXT NOT NULL CHECK (length(name) <= 255),
    unit TEXT NOT NULL CHECK (length(unit) <= 50),
    is_active INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at TEXT
);

CREATE INDEX ix_sensors_device ON sensors (device_id);

CREATE TABLE sensor_readings (
    id INTEGER PRIMARY KEY,
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    -- decimal(15,5) on SQL Server
    value REAL NOT NULL CHECK (abs(value) < 1e10),
    timestamp TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    device_timestamp TEXT,
    event_timestamp TEXT,
    seq INTEGER
);

CREATE UNIQUE INDEX ux_sensor_readings_event
ON sensor_readings (sensor_id, event_timestamp, seq)
WHERE event_timestamp IS NOT NULL;

CREATE TABLE alert_thresholds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    name TEXT NOT NULL CHECK (length(name) <= 255),
    condition_type TEXT NOT NULL,
    threshold_value_min REAL,
    threshold_value_max REAL,
    severity TEXT NOT NULL DEFAULT 'warning',
    is_active INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at TEXT
);

CREATE INDEX ix_alert_thresholds_sensor ON alert_thresholds (sensor_id);

CREATE TABLE ml_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id INTEGER NOT NULL REFERENCES devices (id),
    sensor_id INTEGER REFERENCES sensors (id),
    prediction_id INTEGER,
    event_type TEXT NOT NULL,
    event_code TEXT NOT NULL CHECK (length(event_code) <= 100),
    title TEXT NOT NULL CHECK (length(title) <= 255),
    message TEXT CHECK (length(message) <= 1000),
    status TEXT NOT NULL DEFAULT 'active',
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    acknowledged_at TEXT,
    acknowledged_by INTEGER,
    resolved_at TEXT,
    resolved_by INTEGER,
    payload TEXT,
    event_key TEXT
);

CREATE UNIQUE INDEX ux_ml_events_key ON ml_events (event_key) WHERE event_key IS NOT NULL;
CREATE INDEX ix_ml_events_created ON ml_events (created_at);

CREATE TABLE alert_notifications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    source_event_id INTEGER NOT NULL,
    severity TEXT NOT NULL,
    title TEXT NOT NULL CHECK (length(title) <= 255),
    message TEXT CHECK (length(message) <= 2000),
    is_read INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    read_at TEXT,
    sensor_id INTEGER,
    device_id INTEGER,
    triggered_value REAL,
    event_type TEXT,
    snapshot_data TEXT,
    event_key TEXT
);

CREATE UNIQUE INDEX ux_alert_notifications_key
ON alert_notifications (event_key)
WHERE event_key IS NOT NULL;

CREATE TABLE sink_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL,
    row_key TEXT NOT NULL UNIQUE,
    error TEXT NOT NULL,
    row_json TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
