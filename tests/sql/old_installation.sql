-- The tables of the system that is replaced, its procedures and its trigger, with a row or two
-- in each.
CREATE TABLE dbo.users (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    username varchar(100) NOT NULL UNIQUE,
    email varchar(255) NOT NULL UNIQUE,
    password_hash varchar(255) NOT NULL,
    role varchar(50) NOT NULL DEFAULT 'viewer',
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    updated_at datetime2 NULL
);
CREATE TABLE dbo.devices (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_uuid uniqueidentifier NOT NULL DEFAULT NEWID(),
    name varchar(255) NOT NULL,
    device_type varchar(100) NOT NULL,
    status varchar(50) NOT NULL,
    last_connection datetime2 NULL,
    metadata nvarchar(max) NULL,
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    updated_at datetime2 NULL
);
CREATE TABLE dbo.user_devices (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES dbo.users (id),
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    permission_level varchar(50) NOT NULL DEFAULT 'read',
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    UNIQUE (user_id, device_id)
);
CREATE TABLE dbo.sensors (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    sensor_uuid uniqueidentifier NOT NULL DEFAULT NEWID(),
    sensor_type varchar(100) NOT NULL,
    name varchar(255) NOT NULL,
    unit varchar(50) NOT NULL,
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    updated_at datetime2 NULL
);
CREATE TABLE dbo.sensor_readings (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    value decimal(15, 5) NOT NULL,
    [timestamp] datetime2(6) NOT NULL DEFAULT GETDATE()
);
CREATE TABLE dbo.sensor_readings_latest (
    sensor_id bigint NOT NULL PRIMARY KEY,
    latest_value decimal(15, 5) NOT NULL,
    latest_timestamp datetime2 NOT NULL
);
CREATE TABLE dbo.sensor_readings_1m (
    sensor_id bigint NOT NULL,
    bucket_ts datetime2 NOT NULL,
    avg_value decimal(15, 5) NOT NULL,
    min_value decimal(15, 5) NOT NULL,
    max_value decimal(15, 5) NOT NULL,
    last_value decimal(15, 5) NULL,
    samples int NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);
CREATE TABLE dbo.sensor_readings_5m (
    sensor_id bigint NOT NULL,
    bucket_ts datetime2 NOT NULL,
    avg_value decimal(15, 5) NOT NULL,
    min_value decimal(15, 5) NOT NULL,
    max_value decimal(15, 5) NOT NULL,
    last_value decimal(15, 5) NULL,
    samples int NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);
CREATE TABLE dbo.sensor_readings_1h (
    sensor_id bigint NOT NULL,
    bucket_ts datetime2 NOT NULL,
    avg_value decimal(15, 5) NOT NULL,
    min_value decimal(15, 5) NOT NULL,
    max_value decimal(15, 5) NOT NULL,
    last_value decimal(15, 5) NULL,
    samples int NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);
CREATE TABLE dbo.alert_thresholds (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    name varchar(255) NOT NULL,
    condition_type varchar(50) NOT NULL,
    threshold_value_min decimal(15, 5) NULL,
    threshold_value_max decimal(15, 5) NULL,
    severity varchar(50) NOT NULL DEFAULT 'warning',
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    updated_at datetime2 NULL
);
CREATE TABLE dbo.threshold_history (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    threshold_id bigint NOT NULL REFERENCES dbo.alert_thresholds (id),
    old_min decimal(15, 5) NULL,
    old_max decimal(15, 5) NULL,
    new_min decimal(15, 5) NULL,
    new_max decimal(15, 5) NULL,
    changed_by bigint NOT NULL,
    changed_at datetime2 NOT NULL DEFAULT GETDATE(),
    reason nvarchar(500) NULL
);
CREATE TABLE dbo.delta_thresholds (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL,
    abs_delta decimal(15, 5) NULL,
    rel_delta decimal(15, 5) NULL,
    abs_slope decimal(15, 5) NULL,
    rel_slope decimal(15, 5) NULL,
    severity varchar(20) NULL,
    is_active bit NOT NULL
);
CREATE TABLE dbo.alerts (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    -- NOT NULL then; the server of our tests cannot change that
    threshold_id bigint NULL REFERENCES dbo.alert_thresholds (id),
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    severity varchar(50) NOT NULL,
    status varchar(50) NOT NULL DEFAULT 'active',
    triggered_value decimal(15, 5) NOT NULL,
    triggered_at datetime2 NOT NULL,
    acknowledged_at datetime2 NULL,
    acknowledged_by bigint NULL REFERENCES dbo.users (id),
    resolved_at datetime2 NULL,
    resolved_by bigint NULL REFERENCES dbo.users (id)
);
CREATE TABLE dbo.ml_models (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    model_name varchar(255) NOT NULL,
    model_type varchar(100) NOT NULL,
    version varchar(50) NOT NULL,
    is_active bit NOT NULL DEFAULT 0,
    trained_at datetime2 NOT NULL,
    accuracy decimal(5, 4) NULL,
    metadata nvarchar(max) NULL
);
CREATE TABLE dbo.predictions (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    model_id bigint NOT NULL REFERENCES dbo.ml_models (id),
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    device_id bigint NULL REFERENCES dbo.devices (id),
    predicted_value decimal(15, 5) NOT NULL,
    confidence decimal(5, 4) NOT NULL,
    predicted_at datetime2 NOT NULL,
    target_timestamp datetime2 NOT NULL,
    horizon_minutes int NULL,
    window_points int NULL,
    trend varchar(10) NULL,
    is_anomaly bit NULL,
    anomaly_score float NULL,
    risk_level varchar(20) NULL,
    severity varchar(50) NULL,
    status varchar(50) NULL,
    explanation nvarchar(1000) NULL
);
CREATE TABLE dbo.ml_events (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    sensor_id bigint NULL REFERENCES dbo.sensors (id),
    prediction_id bigint NULL REFERENCES dbo.predictions (id),
    event_type varchar(50) NOT NULL,
    event_code varchar(100) NOT NULL,
    title nvarchar(255) NOT NULL,
    message nvarchar(1000) NULL,
    status varchar(50) NOT NULL DEFAULT 'active',
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    acknowledged_at datetime2 NULL,
    acknowledged_by bigint NULL,
    resolved_at datetime2 NULL,
    resolved_by bigint NULL,
    payload nvarchar(max) NULL
);
CREATE TABLE dbo.alert_notifications (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    source varchar(50) NOT NULL,
    source_event_id bigint NOT NULL,
    severity varchar(50) NOT NULL,
    title nvarchar(255) NOT NULL,
    message nvarchar(2000) NULL,
    is_read bit NOT NULL DEFAULT 0,
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    read_at datetime2 NULL
);
CREATE TABLE dbo.ml_watermarks (
    sensor_id bigint NOT NULL PRIMARY KEY,
    last_reading_id bigint NULL,
    last_processed_at datetime2 NULL
);
CREATE TABLE dbo.push_tokens (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES dbo.users (id) ON DELETE CASCADE,
    fcm_token nvarchar(512) NOT NULL UNIQUE,
    platform varchar(20) NOT NULL,
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    last_seen_at datetime2 NULL
);
CREATE TABLE dbo.refresh_tokens (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES dbo.users (id) ON DELETE CASCADE,
    token_hash varchar(64) NOT NULL UNIQUE,
    created_at datetime2 NOT NULL DEFAULT GETDATE(),
    expires_at datetime2 NOT NULL,
    revoked_at datetime2 NULL,
    replaced_by_id bigint NULL,
    ip varchar(64) NULL,
    user_agent varchar(512) NULL
);
GO
CREATE VIEW dbo.v_active_alerts
AS
SELECT
    a.id AS alert_id, a.severity, a.status, a.triggered_value, a.triggered_at,
    d.name AS device_name, d.device_uuid, s.name AS sensor_name, s.sensor_type, s.unit,
    t.name AS threshold_name, t.condition_type, t.threshold_value_min, t.threshold_value_max
FROM dbo.alerts AS a
INNER JOIN dbo.sensors AS s ON s.id = a.sensor_id
INNER JOIN dbo.devices AS d ON d.id = a.device_id
INNER JOIN dbo.alert_thresholds AS t ON t.id = a.threshold_id
WHERE a.status IN ('active', 'acknowledged');
GO
-- Its fault: of several rows at once it sees one.
CREATE TRIGGER dbo.trg_check_thresholds ON dbo.sensor_readings
AFTER INSERT
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @sensor bigint;
    DECLARE @value decimal(15, 5);
    SELECT @sensor = i.sensor_id, @value = i.value FROM inserted AS i;
    INSERT INTO dbo.alerts (
        threshold_id, sensor_id, device_id, severity, triggered_value, triggered_at
    )
    SELECT t.id, s.id, s.device_id, t.severity, @value, GETDATE()
    FROM dbo.alert_thresholds AS t
    INNER JOIN dbo.sensors AS s ON s.id = t.sensor_id
    WHERE
        t.sensor_id = @sensor
        AND t.is_active = 1
        AND (
            (t.condition_type = 'greater_than' AND @value > t.threshold_value_min)
            OR (t.condition_type = 'less_than' AND @value < t.threshold_value_min)
            OR (
                t.condition_type = 'out_of_range'
                AND (@value < t.threshold_value_min OR @value > t.threshold_value_max)
            )
        )
        AND NOT EXISTS (
            SELECT 1 FROM dbo.alerts AS a
            WHERE a.sensor_id = @sensor AND a.severity = t.severity AND a.status = 'active'
        );
END;
GO
CREATE PROCEDURE dbo.sp_insert_reading_and_check_threshold
    @p_sensor_id bigint,
    @p_value decimal(15, 5)
AS
BEGIN
    SET NOCOUNT ON;
    INSERT INTO dbo.sensor_readings (sensor_id, value) VALUES (@p_sensor_id, @p_value);
END;
GO
CREATE PROCEDURE dbo.sp_insert_readings_bulk_json_and_check_threshold
    @p_readings_json nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    INSERT INTO dbo.sensor_readings (sensor_id, value)
    SELECT r.sensor_id, r.value
    FROM OPENJSON (@p_readings_json) WITH (
        sensor_id bigint '$.sensor_id', value decimal(15, 5) '$.value'
    ) AS r;
END;
GO
INSERT INTO dbo.users (username, email, password_hash, role)
VALUES ('ana', 'ana@example.org', 'x', 'operator');
INSERT INTO dbo.devices (name, device_type, status) VALUES ('rig', 'gateway', 'online');
INSERT INTO dbo.user_devices (user_id, device_id) VALUES (1, 1);
INSERT INTO dbo.sensors (device_id, sensor_type, name, unit)
VALUES (1, 'power', 'pump', 'W'), (1, 'temperature', 'boiler', 'C');
INSERT INTO dbo.sensor_readings (sensor_id, value, [timestamp])
VALUES
(1, 1, '2024-11-24T09:59:59.1234'),
(1, 2, '2024-11-24T10:00:00'),
(1, 2, '2024-11-24T10:00:00'),
(2, 20.5, '2024-11-24T10:00:00');
INSERT INTO dbo.sensor_readings_1m (
    sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
)
VALUES (1, '2024-11-24T10:00:00', 1, 1, 1, 1, 5);
INSERT INTO dbo.sensor_readings_latest (sensor_id, latest_value, latest_timestamp)
VALUES (1, 1, '2024-11-24T10:00:00');
INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min)
VALUES (1, 'high', 'greater_than', 80);
INSERT INTO dbo.threshold_history (threshold_id, old_min, new_min, changed_by, reason)
VALUES (1, 70, 80, 1, 'too many');
INSERT INTO dbo.delta_thresholds (sensor_id, abs_delta, is_active) VALUES (1, 5.5, 1);
-- nothing kept two alerts of one severity from standing at a time
INSERT INTO dbo.alerts (
    threshold_id, sensor_id, device_id, severity, triggered_value, triggered_at
)
VALUES
(1, 1, 1, 'warning', 81, '2024-11-24T09:00:00'),
(1, 1, 1, 'warning', 82, '2024-11-24T09:30:00');
INSERT INTO dbo.alert_notifications (source, source_event_id, severity, title)
VALUES ('alert', 1, 'warning', 'high');
INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)
VALUES (1, 'baseline_moving_average', 'baseline', '1.0.0', 1, '2024-11-24T10:00:00');
INSERT INTO dbo.ml_events (device_id, sensor_id, event_type, event_code, title, payload)
VALUES (1, 1, 'notice', 'ML_BEHAVIOR_STATE', 'ML online', '{"severity":"NORMAL"}');
INSERT INTO dbo.ml_watermarks (sensor_id, last_reading_id, last_processed_at)
VALUES (1, 3, '2024-11-24T10:00:00');
