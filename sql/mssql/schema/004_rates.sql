-- How fast a sensor's mean may rise and fall, per minute, taken over `span_seconds`.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF OBJECT_ID(N'dbo.rate_thresholds', N'U') IS NULL
CREATE TABLE dbo.rate_thresholds (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    name nvarchar(255) NULL,
    span_seconds int NOT NULL DEFAULT 60,
    rise_per_minute float NULL,
    fall_per_minute float NULL,
    severity varchar(20) NOT NULL DEFAULT 'warning',
    is_active bit NOT NULL DEFAULT 1,
    raise_after int NULL,
    clear_after int NULL
);
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.rate_thresholds')
        AND name = N'ix_rate_thresholds_sensor'
)
CREATE INDEX ix_rate_thresholds_sensor ON dbo.rate_thresholds (sensor_id);
GO
