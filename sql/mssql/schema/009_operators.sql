-- What an operator notes about an event, and an index that lists the newest events.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF COL_LENGTH(N'dbo.ml_events', N'operator_note') IS NULL
ALTER TABLE dbo.ml_events ADD operator_note nvarchar(1000) NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_events') AND name LIKE N'ix[_]ml[_]events[_]created%'
)
CREATE INDEX ix_ml_events_created ON dbo.ml_events (created_at);
GO
