-- Tables that an older installation has stay as they are; only what is missing is added.
-- All times are UTC.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF OBJECT_ID(N'dbo.schema_migrations', N'U') IS NULL
CREATE TABLE dbo.schema_migrations (
    name varchar(200) NOT NULL PRIMARY KEY,
    checksum varchar(64) NOT NULL,
    applied_at datetime2(3) NOT NULL DEFAULT SYSUTCDATETIME()
);
GO
IF OBJECT_ID(N'dbo.users', N'U') IS NULL
CREATE TABLE dbo.users (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    username varchar(100) NOT NULL,
    email varchar(255) NOT NULL,
    password_hash varchar(255) NOT NULL,
    role varchar(50) NOT NULL DEFAULT 'viewer',
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    updated_at datetime2(6) NULL,
    CONSTRAINT uq_users_username UNIQUE (username),
    CONSTRAINT uq_users_email UNIQUE (email)
);
GO
IF OBJECT_ID(N'dbo.devices', N'U') IS NULL
CREATE TABLE dbo.devices (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_uuid uniqueidentifier NOT NULL DEFAULT NEWID(),
    name varchar(255) NOT NULL,
    device_type varchar(100) NOT NULL,
    status varchar(50) NOT NULL DEFAULT 'offline',
    last_connection datetime2(6) NULL,
    metadata nvarchar(max) NULL,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    updated_at datetime2(6) NULL,
    CONSTRAINT uq_devices_device_uuid UNIQUE (device_uuid)
);
GO
IF COL_LENGTH(N'dbo.devices', N'provisioning_code') IS NULL
ALTER TABLE dbo.devices ADD provisioning_code varchar(20) NULL;
GO
IF COL_LENGTH(N'dbo.devices', N'activation_attempts') IS NULL
ALTER TABLE dbo.devices ADD activation_attempts int NOT NULL DEFAULT 0;
GO
IF COL_LENGTH(N'dbo.devices', N'last_activation_attempt') IS NULL
ALTER TABLE dbo.devices ADD last_activation_attempt datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.devices', N'activated_from_ip') IS NULL
ALTER TABLE dbo.devices ADD activated_from_ip varchar(45) NULL;
GO
IF COL_LENGTH(N'dbo.devices', N'deleted_at') IS NULL
ALTER TABLE dbo.devices ADD deleted_at datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.devices', N'last_seen_at') IS NULL
ALTER TABLE dbo.devices ADD last_seen_at datetime2(6) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.devices') AND name LIKE N'ix[_]devices[_]provisioning[_]code%'
)
CREATE UNIQUE INDEX ix_devices_provisioning_code
ON dbo.devices (provisioning_code)
WHERE provisioning_code IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.devices') AND name LIKE N'ix[_]devices[_]status%'
)
CREATE INDEX ix_devices_status ON dbo.devices (status) INCLUDE (device_uuid, name, device_type);
GO
IF OBJECT_ID(N'dbo.sensors', N'U') IS NULL
CREATE TABLE dbo.sensors (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    sensor_uuid uniqueidentifier NOT NULL DEFAULT NEWID(),
    sensor_type varchar(100) NOT NULL,
    name varchar(255) NOT NULL,
    unit varchar(50) NOT NULL,
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    updated_at datetime2(6) NULL,
    CONSTRAINT uq_sensors_sensor_uuid UNIQUE (sensor_uuid)
);
GO
IF COL_LENGTH(N'dbo.sensors', N'status') IS NULL
ALTER TABLE dbo.sensors ADD status varchar(25) NOT NULL DEFAULT 'online';
GO
IF COL_LENGTH(N'dbo.sensors', N'provisioning_code') IS NULL
ALTER TABLE dbo.sensors ADD provisioning_code varchar(20) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'claim_token') IS NULL
ALTER TABLE dbo.sensors ADD claim_token varchar(64) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'claim_token_expires') IS NULL
ALTER TABLE dbo.sensors ADD claim_token_expires datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'reserved_by_user_id') IS NULL
ALTER TABLE dbo.sensors ADD reserved_by_user_id bigint NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'reserved_at') IS NULL
ALTER TABLE dbo.sensors ADD reserved_at datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'require_qr_confirmation') IS NULL
ALTER TABLE dbo.sensors ADD require_qr_confirmation bit NOT NULL DEFAULT 0;
GO
IF COL_LENGTH(N'dbo.sensors', N'api_key_hash') IS NULL
ALTER TABLE dbo.sensors ADD api_key_hash varchar(128) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'api_key_prefix') IS NULL
ALTER TABLE dbo.sensors ADD api_key_prefix varchar(12) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'activated_at') IS NULL
ALTER TABLE dbo.sensors ADD activated_at datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'activated_by_user_id') IS NULL
ALTER TABLE dbo.sensors ADD activated_by_user_id bigint NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'activated_from_ip') IS NULL
ALTER TABLE dbo.sensors ADD activated_from_ip varchar(45) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'confirm_attempts') IS NULL
ALTER TABLE dbo.sensors ADD confirm_attempts int NOT NULL DEFAULT 0;
GO
IF COL_LENGTH(N'dbo.sensors', N'last_confirm_attempt') IS NULL
ALTER TABLE dbo.sensors ADD last_confirm_attempt datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.sensors', N'is_deleted') IS NULL
ALTER TABLE dbo.sensors ADD is_deleted bit NOT NULL DEFAULT 0;
GO
IF COL_LENGTH(N'dbo.sensors', N'deleted_at') IS NULL
ALTER TABLE dbo.sensors ADD deleted_at datetime2(6) NULL;
GO
-- searches by claim_token take this one; the old system had a second, plain one for them
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name LIKE N'uq[_]sensors[_]claim[_]token%'
)
CREATE UNIQUE INDEX uq_sensors_claim_token
ON dbo.sensors (claim_token)
WHERE claim_token IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.sensors')
        AND name LIKE N'ix[_]sensors[_]claim[_]token[_]expires%'
)
CREATE INDEX ix_sensors_claim_token_expires
ON dbo.sensors (claim_token_expires)
WHERE claim_token_expires IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name LIKE N'ix[_]sensors[_]api[_]key[_]prefix%'
)
CREATE INDEX ix_sensors_api_key_prefix
ON dbo.sensors (api_key_prefix)
WHERE api_key_prefix IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name LIKE N'ix[_]sensors[_]provisioning[_]code%'
)
CREATE UNIQUE INDEX ix_sensors_provisioning_code
ON dbo.sensors (provisioning_code)
WHERE provisioning_code IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name LIKE N'ix[_]sensors[_]status%'
)
CREATE INDEX ix_sensors_status
ON dbo.sensors (status)
INCLUDE (sensor_uuid, sensor_type, unit, device_id);
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name LIKE N'ix[_]sensors[_]device%'
)
CREATE INDEX ix_sensors_device ON dbo.sensors (device_id);
GO
IF OBJECT_ID(N'dbo.sensor_readings', N'U') IS NULL
CREATE TABLE dbo.sensor_readings (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    value decimal(15, 5) NOT NULL,
    [timestamp] datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME()
);
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.sensor_readings')
        AND name LIKE N'ix[_]sensor[_]readings[_]sensor%'
)
CREATE INDEX ix_sensor_readings_sensor
ON dbo.sensor_readings (sensor_id, [timestamp] DESC)
INCLUDE (value);
GO
IF OBJECT_ID(N'dbo.sensor_readings_1m', N'U') IS NULL
CREATE TABLE dbo.sensor_readings_1m (
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    bucket_ts datetime2(3) NOT NULL,
    avg_value decimal(15, 5) NOT NULL,
    min_value decimal(15, 5) NOT NULL,
    max_value decimal(15, 5) NOT NULL,
    last_value decimal(15, 5) NULL,
    samples int NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);
GO
IF OBJECT_ID(N'dbo.sensor_readings_5m', N'U') IS NULL
CREATE TABLE dbo.sensor_readings_5m (
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    bucket_ts datetime2(3) NOT NULL,
    avg_value decimal(15, 5) NOT NULL,
    min_value decimal(15, 5) NOT NULL,
    max_value decimal(15, 5) NOT NULL,
    last_value decimal(15, 5) NULL,
    samples int NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);
GO
IF OBJECT_ID(N'dbo.sensor_readings_1h', N'U') IS NULL
CREATE TABLE dbo.sensor_readings_1h (
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    bucket_ts datetime2(3) NOT NULL,
    avg_value decimal(15, 5) NOT NULL,
    min_value decimal(15, 5) NOT NULL,
    max_value decimal(15, 5) NOT NULL,
    last_value decimal(15, 5) NULL,
    samples int NOT NULL,
    PRIMARY KEY (sensor_id, bucket_ts)
);
GO
IF OBJECT_ID(N'dbo.alert_thresholds', N'U') IS NULL
CREATE TABLE dbo.alert_thresholds (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    name varchar(255) NOT NULL,
    condition_type varchar(50) NOT NULL,
    threshold_value_min decimal(15, 5) NULL,
    threshold_value_max decimal(15, 5) NULL,
    severity varchar(50) NOT NULL DEFAULT 'warning',
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    updated_at datetime2(6) NULL
);
GO
IF COL_LENGTH(N'dbo.alert_thresholds', N'consecutive_readings') IS NULL
ALTER TABLE dbo.alert_thresholds ADD consecutive_readings int NULL;
GO
IF COL_LENGTH(N'dbo.alert_thresholds', N'clear_after') IS NULL
ALTER TABLE dbo.alert_thresholds ADD clear_after int NULL;
GO
IF COL_LENGTH(N'dbo.alert_thresholds', N'reset_value_min') IS NULL
ALTER TABLE dbo.alert_thresholds ADD reset_value_min decimal(15, 5) NULL;
GO
IF COL_LENGTH(N'dbo.alert_thresholds', N'reset_value_max') IS NULL
ALTER TABLE dbo.alert_thresholds ADD reset_value_max decimal(15, 5) NULL;
GO
IF COL_LENGTH(N'dbo.alert_thresholds', N'forecast_after') IS NULL
ALTER TABLE dbo.alert_thresholds ADD forecast_after int NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.alert_thresholds')
        AND name LIKE N'ix[_]alert[_]thresholds[_]sensor%'
)
CREATE INDEX ix_alert_thresholds_sensor ON dbo.alert_thresholds (sensor_id);
GO
IF OBJECT_ID(N'dbo.threshold_history', N'U') IS NULL
CREATE TABLE dbo.threshold_history (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    threshold_id bigint NOT NULL REFERENCES dbo.alert_thresholds (id),
    old_min decimal(15, 5) NULL,
    old_max decimal(15, 5) NULL,
    new_min decimal(15, 5) NULL,
    new_max decimal(15, 5) NULL,
    changed_by bigint NOT NULL,
    changed_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    reason nvarchar(500) NULL
);
GO
IF OBJECT_ID(N'dbo.delta_thresholds', N'U') IS NULL
CREATE TABLE dbo.delta_thresholds (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    abs_delta float NULL,
    rel_delta float NULL,
    abs_slope float NULL,
    rel_slope float NULL,
    severity varchar(20) NULL,
    is_active bit NOT NULL DEFAULT 1
);
GO
IF COL_LENGTH(N'dbo.delta_thresholds', N'min_readings') IS NULL
ALTER TABLE dbo.delta_thresholds ADD min_readings int NOT NULL DEFAULT 5;
GO
IF COL_LENGTH(N'dbo.delta_thresholds', N'cooldown_sec') IS NULL
ALTER TABLE dbo.delta_thresholds ADD cooldown_sec int NULL;
GO
IF COL_LENGTH(N'dbo.delta_thresholds', N'min_delta_abs') IS NULL
ALTER TABLE dbo.delta_thresholds ADD min_delta_abs float NULL;
GO
IF COL_LENGTH(N'dbo.delta_thresholds', N'raise_after') IS NULL
ALTER TABLE dbo.delta_thresholds ADD raise_after int NULL;
GO
IF COL_LENGTH(N'dbo.delta_thresholds', N'clear_after') IS NULL
ALTER TABLE dbo.delta_thresholds ADD clear_after int NULL;
GO
IF OBJECT_ID(N'dbo.ml_models', N'U') IS NULL
CREATE TABLE dbo.ml_models (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    model_name varchar(255) NOT NULL,
    model_type varchar(100) NOT NULL,
    version varchar(50) NOT NULL,
    is_active bit NOT NULL DEFAULT 0,
    trained_at datetime2(6) NOT NULL,
    accuracy decimal(5, 4) NULL,
    metadata nvarchar(max) NULL
);
GO
IF OBJECT_ID(N'dbo.predictions', N'U') IS NULL
CREATE TABLE dbo.predictions (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    model_id bigint NOT NULL REFERENCES dbo.ml_models (id),
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    -- the old service leaves it out
    device_id bigint NULL REFERENCES dbo.devices (id),
    predicted_value decimal(15, 5) NOT NULL,
    confidence decimal(5, 4) NOT NULL,
    predicted_at datetime2(6) NOT NULL,
    target_timestamp datetime2(6) NOT NULL,
    horizon_minutes int NULL,
    window_points int NULL,
    trend varchar(10) NULL,
    is_anomaly int NULL,
    anomaly_score float NULL,
    risk_level varchar(20) NULL,
    severity varchar(50) NULL,
    status varchar(50) NULL,
    explanation nvarchar(1000) NULL
);
GO
IF COL_LENGTH(N'dbo.predictions', N'engine_name') IS NULL
ALTER TABLE dbo.predictions ADD engine_name varchar(50) NULL;
GO
-- predicted_at again, in the rows that the flow has written: others may repeat themselves
IF COL_LENGTH(N'dbo.predictions', N'event_predicted_at') IS NULL
ALTER TABLE dbo.predictions ADD event_predicted_at datetime2(3) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.predictions') AND name LIKE N'ux[_]predictions[_]event%'
)
CREATE UNIQUE INDEX ux_predictions_event
ON dbo.predictions (model_id, sensor_id, event_predicted_at)
WHERE event_predicted_at IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.predictions') AND name LIKE N'ix[_]predictions[_]sensor%'
)
CREATE INDEX ix_predictions_sensor ON dbo.predictions (sensor_id, predicted_at);
GO
IF OBJECT_ID(N'dbo.ml_events', N'U') IS NULL
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
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    acknowledged_at datetime2(6) NULL,
    acknowledged_by bigint NULL,
    resolved_at datetime2(6) NULL,
    resolved_by bigint NULL,
    payload nvarchar(max) NULL
);
GO
IF COL_LENGTH(N'dbo.ml_events', N'anomaly_score') IS NULL
ALTER TABLE dbo.ml_events ADD anomaly_score float NULL;
GO
IF COL_LENGTH(N'dbo.ml_events', N'anomaly_confidence') IS NULL
ALTER TABLE dbo.ml_events ADD anomaly_confidence float NULL;
GO
IF COL_LENGTH(N'dbo.ml_events', N'method_votes') IS NULL
ALTER TABLE dbo.ml_events ADD method_votes nvarchar(max) NULL;
GO
IF COL_LENGTH(N'dbo.ml_events', N'audit_trace_id') IS NULL
ALTER TABLE dbo.ml_events ADD audit_trace_id varchar(64) NULL;
GO
IF COL_LENGTH(N'dbo.ml_events', N'event_key') IS NULL
ALTER TABLE dbo.ml_events ADD event_key varchar(64) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'ux[_]ml[_]events[_]key%'
)
CREATE UNIQUE INDEX ux_ml_events_key ON dbo.ml_events (event_key) WHERE event_key IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'ix[_]ml[_]events[_]sensor%'
)
CREATE INDEX ix_ml_events_sensor ON dbo.ml_events (sensor_id, event_code, status);
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'ix[_]ml[_]events[_]status%'
)
CREATE INDEX ix_ml_events_status ON dbo.ml_events (status, created_at);
GO
IF OBJECT_ID(N'dbo.ml_watermarks', N'U') IS NULL
CREATE TABLE dbo.ml_watermarks (
    sensor_id bigint NOT NULL PRIMARY KEY REFERENCES dbo.sensors (id),
    last_reading_id bigint NULL,
    last_processed_at datetime2(6) NULL
);
GO
IF OBJECT_ID(N'dbo.alert_notifications', N'U') IS NULL
CREATE TABLE dbo.alert_notifications (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    source varchar(50) NOT NULL,
    source_event_id bigint NOT NULL,
    severity varchar(50) NOT NULL,
    title nvarchar(255) NOT NULL,
    message nvarchar(2000) NULL,
    is_read bit NOT NULL DEFAULT 0,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    read_at datetime2(6) NULL
);
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'snapshot_data') IS NULL
ALTER TABLE dbo.alert_notifications ADD snapshot_data nvarchar(max) NULL;
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'event_key') IS NULL
ALTER TABLE dbo.alert_notifications ADD event_key varchar(64) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.alert_notifications')
        AND name LIKE N'ux[_]alert[_]notifications[_]key%'
)
CREATE UNIQUE INDEX ux_alert_notifications_key
ON dbo.alert_notifications (event_key)
WHERE event_key IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.alert_notifications')
        AND name LIKE N'ix[_]alert[_]notifications[_]unread%'
)
CREATE INDEX ix_alert_notifications_unread
ON dbo.alert_notifications (created_at)
WHERE is_read = 0;
GO
IF OBJECT_ID(N'dbo.alert_events', N'U') IS NULL
CREATE TABLE dbo.alert_events (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    event_type varchar(50) NOT NULL,
    event_subtype varchar(100) NULL,
    severity varchar(50) NOT NULL,
    triggered_value decimal(15, 5) NOT NULL,
    threshold_id bigint NULL,
    threshold_value_min decimal(15, 5) NULL,
    threshold_value_max decimal(15, 5) NULL,
    triggered_at datetime2(6) NOT NULL,
    status varchar(50) NOT NULL DEFAULT 'active',
    acknowledged_at datetime2(6) NULL,
    acknowledged_by bigint NULL,
    resolved_at datetime2(6) NULL,
    resolved_by bigint NULL,
    title nvarchar(255) NULL,
    message nvarchar(2000) NULL,
    metadata nvarchar(max) NULL
);
GO
IF OBJECT_ID(N'dbo.alert_snapshots', N'U') IS NULL
CREATE TABLE dbo.alert_snapshots (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    alert_id bigint NOT NULL,
    sensor_id bigint NOT NULL,
    device_id bigint NOT NULL,
    sensor_name varchar(255) NULL,
    device_name varchar(255) NULL,
    unit varchar(50) NULL,
    sensor_type varchar(100) NULL,
    triggered_at datetime2(6) NOT NULL,
    triggered_value decimal(15, 5) NOT NULL,
    severity varchar(50) NOT NULL,
    threshold_warning_min decimal(15, 5) NULL,
    threshold_warning_max decimal(15, 5) NULL,
    threshold_alert_min decimal(15, 5) NULL,
    threshold_alert_max decimal(15, 5) NULL,
    series_data nvarchar(max) NULL,
    context_from datetime2(6) NULL,
    context_to datetime2(6) NULL,
    point_count int NOT NULL DEFAULT 0,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    CONSTRAINT uq_alert_snapshots_alert UNIQUE (alert_id)
);
GO
IF OBJECT_ID(N'dbo.decision_actions', N'U') IS NULL
CREATE TABLE dbo.decision_actions (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    pattern_signature varchar(64) NOT NULL,
    decision_type varchar(50) NOT NULL DEFAULT 'monitor',
    priority int NOT NULL DEFAULT 3,
    severity varchar(20) NOT NULL DEFAULT 'info',
    title nvarchar(200) NOT NULL,
    summary nvarchar(500) NOT NULL,
    explanation nvarchar(max) NULL,
    recommended_actions nvarchar(max) NULL,
    affected_sensors nvarchar(max) NULL,
    reason_trace nvarchar(max) NULL,
    event_count int NOT NULL DEFAULT 1,
    status varchar(20) NOT NULL DEFAULT 'pending',
    should_notify bit NOT NULL DEFAULT 0,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    expires_at datetime2(6) NULL,
    acknowledged_at datetime2(6) NULL,
    resolved_at datetime2(6) NULL
);
GO
IF OBJECT_ID(N'dbo.processed_events', N'U') IS NULL
CREATE TABLE dbo.processed_events (
    event_id nvarchar(64) NOT NULL PRIMARY KEY,
    consumer_id nvarchar(100) NOT NULL,
    event_type nvarchar(50) NULL,
    processed_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME()
);
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.processed_events')
        AND name LIKE N'ix[_]processed[_]events[_]at%'
)
CREATE INDEX ix_processed_events_at ON dbo.processed_events (processed_at);
GO
IF OBJECT_ID(N'dbo.user_devices', N'U') IS NULL
CREATE TABLE dbo.user_devices (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES dbo.users (id),
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    permission_level varchar(50) NOT NULL DEFAULT 'read',
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    CONSTRAINT uq_user_devices UNIQUE (user_id, device_id)
);
GO
IF OBJECT_ID(N'dbo.push_tokens', N'U') IS NULL
CREATE TABLE dbo.push_tokens (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES dbo.users (id) ON DELETE CASCADE,
    fcm_token nvarchar(512) NOT NULL,
    platform varchar(20) NOT NULL,
    is_active bit NOT NULL DEFAULT 1,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    last_seen_at datetime2(6) NULL,
    CONSTRAINT uq_push_tokens_fcm_token UNIQUE (fcm_token)
);
GO
IF OBJECT_ID(N'dbo.refresh_tokens', N'U') IS NULL
CREATE TABLE dbo.refresh_tokens (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES dbo.users (id) ON DELETE CASCADE,
    token_hash varchar(64) NOT NULL,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    expires_at datetime2(6) NOT NULL,
    revoked_at datetime2(6) NULL,
    replaced_by_id bigint NULL,
    ip varchar(64) NULL,
    user_agent varchar(512) NULL,
    CONSTRAINT uq_refresh_tokens_token_hash UNIQUE (token_hash)
);
GO
IF OBJECT_ID(N'dbo.device_api_keys', N'U') IS NULL
CREATE TABLE dbo.device_api_keys (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_id bigint NOT NULL REFERENCES dbo.devices (id) ON DELETE CASCADE,
    api_key_hash varchar(64) NOT NULL,
    key_name varchar(100) NULL,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    last_used_at datetime2(6) NULL,
    expires_at datetime2(6) NULL,
    revoked_at datetime2(6) NULL,
    is_active bit NOT NULL DEFAULT 1,
    metadata nvarchar(max) NULL
);
GO
IF OBJECT_ID(N'dbo.sink_dead_letters', N'U') IS NULL
CREATE TABLE dbo.sink_dead_letters (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sink varchar(50) NOT NULL,
    row_key varchar(64) NOT NULL,
    error nvarchar(2000) NOT NULL,
    row_json nvarchar(max) NOT NULL,
    created_at datetime2(3) NOT NULL DEFAULT SYSUTCDATETIME(),
    CONSTRAINT uq_sink_dead_letters_row_key UNIQUE (row_key)
);
GO
-- Every set of rules that was in force, and the arrival time (epoch milliseconds) from which on.
IF OBJECT_ID(N'dbo.rule_versions', N'U') IS NULL
CREATE TABLE dbo.rule_versions (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    applies_from bigint NOT NULL,
    version varchar(64) NOT NULL,
    rules nvarchar(max) NOT NULL,
    created_at datetime2(3) NOT NULL DEFAULT SYSUTCDATETIME()
);
GO
