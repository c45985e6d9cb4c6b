-- Finds readings without event time, which other programs have inserted.
-- By its name this file comes after the patches, which make the column.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.sensor_readings')
        AND name LIKE N'ix[_]sensor[_]readings[_]undated%'
)
CREATE INDEX ix_sensor_readings_undated
ON dbo.sensor_readings (sensor_id, [timestamp])
INCLUDE (value)
WHERE event_timestamp IS NULL;
GO
