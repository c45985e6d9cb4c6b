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
IF OBJECT_ID(N'dbo.sensor_readings', N'U') IS NULL
CREATE TABLE dbo.sensor_readings (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    value decimal(15, 5) NOT NULL,
    [timestamp] datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    device_timestamp datetime2(6) NULL
);
GO
IF COL_LENGTH(N'dbo.sensor_readings', N'device_timestamp') IS NULL
ALTER TABLE dbo.sensor_readings ADD device_timestamp datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.sensor_readings', N'event_timestamp') IS NULL
ALTER TABLE dbo.sensor_readings ADD event_timestamp datetime2(3) NULL;
GO
IF COL_LENGTH(N'dbo.sensor_readings', N'seq') IS NULL
ALTER TABLE dbo.sensor_readings ADD seq int NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.sensor_readings') AND name = N'ux_sensor_readings_event'
)
CREATE UNIQUE INDEX ux_sensor_readings_event
ON dbo.sensor_readings (sensor_id, event_timestamp, seq)
WHERE event_timestamp IS NOT NULL;
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
IF OBJECT_ID(N'dbo.ml_events', N'U') IS NULL
CREATE TABLE dbo.ml_events (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    sensor_id bigint NULL REFERENCES dbo.sensors (id),
    prediction_id bigint NULL,
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
IF COL_LENGTH(N'dbo.ml_events', N'event_key') IS NULL
ALTER TABLE dbo.ml_events ADD event_key varchar(64) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name = N'ux_ml_events_key'
)
CREATE UNIQUE INDEX ux_ml_events_key ON dbo.ml_events (event_key) WHERE event_key IS NOT NULL;
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
IF COL_LENGTH(N'dbo.alert_notifications', N'sensor_id') IS NULL
ALTER TABLE dbo.alert_notifications ADD sensor_id bigint NULL;
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'device_id') IS NULL
ALTER TABLE dbo.alert_notifications ADD device_id bigint NULL;
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'triggered_value') IS NULL
ALTER TABLE dbo.alert_notifications ADD triggered_value decimal(15, 5) NULL;
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'event_type') IS NULL
ALTER TABLE dbo.alert_notifications ADD event_type varchar(50) NULL;
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'snapshot_data') IS NULL
ALTER TABLE dbo.alert_notifications ADD snapshot_data nvarchar(max) NULL;
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'event_key') IS NULL
ALTER TABLE dbo.alert_notifications ADD event_key varchar(64) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alert_notifications') AND name = N'ux_alert_notifications_key'
)
CREATE UNIQUE INDEX ux_alert_notifications_key
ON dbo.alert_notifications (event_key)
WHERE event_key IS NOT NULL;
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
