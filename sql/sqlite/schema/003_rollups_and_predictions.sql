-- What the flow derives from readings, and the rules that it derives it by.

CREATE TABLE sensor_readings_1m (
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    bucket_ts TEXT NOT NULL,
    -- decimal(15,5) on SQL Server, as all values
    avg_value REAL NOT NULL CHECK (abs(avg_value) < 1e10),
    min_value REAL NOT NULL CHECK (abs(min_value) < 1e10),
    max_value REAL NOT NULL CHECK (abs(max_value) < 1e10),
    last_value REAL CHECK (abs(last_value) < 1e10),
    samples INTEGER NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);

CREATE TABLE sensor_readings_5m (
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    bucket_ts TEXT NOT NULL,
    avg_value REAL NOT NULL CHECK (abs(avg_value) < 1e10),
    min_value REAL NOT NULL CHECK (abs(min_value) < 1e10),
    max_value REAL NOT NULL CHECK (abs(max_value) < 1e10),
    last_value REAL CHECK (abs(last_value) < 1e10),
    samples INTEGER NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);

CREATE TABLE sensor_readings_1h (
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    bucket_ts TEXT NOT NULL,
    avg_value REAL NOT NULL CHECK (abs(avg_value) < 1e10),
    min_value REAL NOT NULL CHECK (abs(min_value) < 1e10),
    max_value REAL NOT NULL CHECK (abs(max_value) < 1e10),
    last_value REAL CHECK (abs(last_value) < 1e10),
    samples INTEGER NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);

CREATE TABLE sensor_readings_latest (
    sensor_id INTEGER NOT NULL PRIMARY KEY REFERENCES sensors (id),
    latest_value REAL NOT NULL CHECK (abs(latest_value) < 1e10),
    latest_timestamp TEXT NOT NULL
);

CREATE TABLE ml_models (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    model_name TEXT NOT NULL CHECK (length(model_name) <= 255),
    model_type TEXT NOT NULL CHECK (length(model_type) <= 100),
    version TEXT NOT NULL CHECK (length(version) <= 50),
    is_active INTEGER NOT NULL DEFAULT 0,
    trained_at TEXT NOT NULL,
    accuracy REAL,
    metadata TEXT
);

CREATE INDEX ix_ml_models_sensor ON ml_models (sensor_id);

CREATE TABLE predictions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id INTEGER NOT NULL REFERENCES ml_models (id),
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    device_id INTEGER NOT NULL REFERENCES devices (id),
    predicted_value REAL NOT NULL CHECK (abs(predicted_value) < 1e10),
    -- decimal(5,4) on SQL Server
    confidence REAL NOT NULL CHECK (abs(confidence) < 10),
    predicted_at TEXT NOT NULL,
    target_timestamp TEXT NOT NULL,
    horizon_minutes INTEGER,
    window_points INTEGER,
    trend TEXT CHECK (length(trend) <= 10),
    is_anomaly INTEGER,
    anomaly_score REAL,
    risk_level TEXT CHECK (length(risk_level) <= 20),
    severity TEXT CHECK (length(severity) <= 50),
    status TEXT CHECK (length(status) <= 50),
    explanation TEXT CHECK (length(explanation) <= 1000),
    engine_name TEXT CHECK (length(engine_name) <= 50),
    -- predicted_at again, in the rows that the flow has written: others may repeat themselves
    event_predicted_at TEXT
);

CREATE UNIQUE INDEX ux_predictions_event
ON predictions (model_id, sensor_id, event_predicted_at)
WHERE event_predicted_at IS NOT NULL;
CREATE INDEX ix_predictions_sensor ON predictions (sensor_id, predicted_at);

ALTER TABLE alert_thresholds ADD COLUMN consecutive_readings INTEGER;
ALTER TABLE alert_thresholds ADD COLUMN clear_after INTEGER;
ALTER TABLE alert_thresholds ADD COLUMN reset_value_min REAL;
ALTER TABLE alert_thresholds ADD COLUMN reset_value_max REAL;
ALTER TABLE alert_thresholds ADD COLUMN forecast_after INTEGER;

CREATE TABLE sensor_threshold_profiles (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor_id INTEGER NOT NULL UNIQUE REFERENCES sensors (id),
    warning_min REAL,
    warning_max REAL,
    alert_min REAL,
    alert_max REAL,
    cooldown_seconds INTEGER NOT NULL DEFAULT 300,
    stale_threshold_ms INTEGER NOT NULL DEFAULT 86400000,
    updated_at TEXT
);

CREATE TABLE delta_thresholds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    abs_delta REAL,
    rel_delta REAL,
    abs_slope REAL,
    rel_slope REAL,
    severity TEXT,
    is_active INTEGER NOT NULL DEFAULT 1,
    min_readings INTEGER NOT NULL DEFAULT 5,
    cooldown_sec INTEGER,
    min_delta_abs REAL,
    raise_after INTEGER,
    clear_after INTEGER
);

CREATE INDEX ix_delta_thresholds_sensor ON delta_thresholds (sensor_id);

-- Every set of rules that was in force, and the arrival time (epoch milliseconds) from which on.
CREATE TABLE rule_versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    applies_from INTEGER NOT NULL,
    version TEXT NOT NULL CHECK (length(version) <= 64),
    rules TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
