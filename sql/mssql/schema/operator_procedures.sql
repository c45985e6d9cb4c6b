-- What `iot events ack` and `iot events resolve` call. An event that a flow has ended meanwhile
-- stays as it is.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF OBJECT_ID(N'dbo.sp_operator_mark_read', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_operator_mark_read;
GO
-- Marks the notifications of an event and its incident as read, but not those of other active
-- events that began no earlier: the operator may not have seen that it got worse.
CREATE PROCEDURE dbo.sp_operator_mark_read
    @p_event_id bigint
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now datetime2(3) = SYSUTCDATETIME();
    DECLARE @incident varchar(64);
    DECLARE @at datetime2(6);
    SELECT @incident = e.incident_key, @at = e.created_at
    FROM dbo.ml_events AS e
    WHERE e.id = @p_event_id;

    UPDATE dbo.alert_notifications
    SET is_read = 1, read_at = @now
    WHERE source = 'ml_event' AND source_event_id = @p_event_id AND is_read = 0;

    UPDATE n
    SET is_read = 1, read_at = @now
    FROM dbo.alert_notifications AS n
    WHERE
        n.incident_key = @incident
        AND n.incident_key IS NOT NULL -- as the index says
        AND n.is_read = 0
        AND NOT EXISTS (
            SELECT 1 FROM dbo.ml_events AS o
            WHERE
                n.source = 'ml_event'
                AND o.id = n.source_event_id
                AND o.status = 'active'
                AND o.created_at >= @at
        );
END;
GO
IF OBJECT_ID(N'dbo.sp_operator_acknowledge_event', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_operator_acknowledge_event;
GO
CREATE PROCEDURE dbo.sp_operator_acknowledge_event
    @p_event_id bigint,
    @p_user_id bigint = NULL,
    @p_note nvarchar(1000) = NULL
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @now datetime2(3) = SYSUTCDATETIME();

    BEGIN TRANSACTION;
    UPDATE dbo.ml_events
    SET status = 'acknowledged', acknowledged_at = @now, acknowledged_by = @p_user_id
    WHERE id = @p_event_id AND status = 'active';

    UPDATE dbo.ml_events
    SET operator_note = @p_note
    WHERE id = @p_event_id AND status = 'acknowledged' AND @p_note IS NOT NULL;

    IF EXISTS (SELECT 1 FROM dbo.ml_events WHERE id = @p_event_id AND status = 'acknowledged')
    EXEC dbo.sp_operator_mark_read @p_event_id = @p_event_id;
    COMMIT TRANSACTION;
END;
GO
IF OBJECT_ID(N'dbo.sp_operator_resolve_event', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_operator_resolve_event;
GO
CREATE PROCEDURE dbo.sp_operator_resolve_event
    @p_event_id bigint,
    @p_user_id bigint = NULL,
    @p_note nvarchar(1000) = NULL
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @now datetime2(3) = SYSUTCDATETIME();

    BEGIN TRANSACTION;
    UPDATE dbo.ml_events
    SET status = 'resolved', resolved_at = @now, resolved_by = @p_user_id
    WHERE id = @p_event_id AND status IN ('active', 'acknowledged');

    UPDATE dbo.ml_events
    SET operator_note = @p_note
    WHERE id = @p_event_id AND status = 'resolved' AND @p_note IS NOT NULL;

    IF EXISTS (SELECT 1 FROM dbo.ml_events WHERE id = @p_event_id AND status = 'resolved')
    EXEC dbo.sp_operator_mark_read @p_event_id = @p_event_id;
    COMMIT TRANSACTION;
END;
GO
