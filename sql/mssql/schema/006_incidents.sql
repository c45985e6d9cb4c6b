-- The key of the first event of the incident that a row belongs to.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF COL_LENGTH(N'dbo.ml_events', N'incident_key') IS NULL
ALTER TABLE dbo.ml_events ADD incident_key varchar(64) NULL;
GO
IF COL_LENGTH(N'dbo.alert_notifications', N'incident_key') IS NULL
ALTER TABLE dbo.alert_notifications ADD incident_key varchar(64) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.ml_events')
        AND name LIKE N'ix[_]ml[_]events[_]incident%'
)
CREATE INDEX ix_ml_events_incident ON dbo.ml_events (incident_key)
WHERE incident_key IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.alert_notifications')
        AND name LIKE N'ix[_]alert[_]notifications[_]incident%'
)
CREATE INDEX ix_alert_notifications_incident ON dbo.alert_notifications (incident_key)
WHERE incident_key IS NOT NULL;
GO
