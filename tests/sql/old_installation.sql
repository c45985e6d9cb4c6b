-- The tables of the system that is replaced, as far as ours meet them, with a row in each.
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
CREATE TABLE dbo.sensor_readings_latest (
    sensor_id bigint NOT NULL PRIMARY KEY,
    latest_value decimal(15, 5) NOT NULL,
    latest_timestamp datetime2 NOT NULL
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
    device_id bigint NULL,
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
GO
INSERT INTO dbo.devices (name, device_type, status) VALUES ('rig', 'gateway', 'online');
INSERT INTO dbo.sensors (device_id, sensor_type, name, unit) VALUES (1, 'power', 'pump', 'W');
INSERT INTO dbo.sensor_readings_1m (
    sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
)
VALUES (1, '2024-11-24T10:00:00', 1, 1, 1, 1, 5);
INSERT INTO dbo.sensor_readings_latest (sensor_id, latest_value, latest_timestamp)
VALUES (1, 1, '2024-11-24T10:00:00');
INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min)
VALUES (1, 'high', 'greater_than', 80);
INSERT INTO dbo.delta_thresholds (sensor_id, abs_delta, is_active) VALUES (1, 5.5, 1);
INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)
VALUES (1, 'baseline_moving_average', 'baseline', '1.0.0', 1, '2024-11-24T10:00:00');
