-- What the back end calls to keep house, by these names and parameters. Times are UTC. Each can be
-- called at any time, also twice at once, and does no more than is left to do.
-- By its name this file comes after the patches: when a procedure is made, the tables that are
-- there must have the columns that it names.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF OBJECT_ID(N'dbo.sp_sensor_increment_valid_readings', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_sensor_increment_valid_readings;
GO
-- Counts a reading that is not stored in sensor_readings; whose trigger counts those that are. The
-- reading that ends a warm-up is itself still silent.
CREATE PROCEDURE dbo.sp_sensor_increment_valid_readings
    @sensor_id bigint,
    @out_can_generate_events bit OUTPUT,
    @out_current_state varchar(20) OUTPUT
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @counted TABLE (state varchar(20) NOT NULL);
    UPDATE dbo.sensors
    SET
        valid_readings_count = CASE operational_state
            WHEN 'STALE' THEN 1 ELSE valid_readings_count + 1
        END,
        operational_state = CASE
            WHEN operational_state = 'STALE' AND min_readings_for_normal > 1
                THEN 'INITIALIZING'
            WHEN
                operational_state = 'INITIALIZING'
                AND valid_readings_count + 1 < min_readings_for_normal
                THEN 'INITIALIZING'
            ELSE 'NORMAL'
        END,
        state_changed_at = CASE
            WHEN
                operational_state = 'INITIALIZING'
                AND valid_readings_count + 1 < min_readings_for_normal
                THEN state_changed_at
            ELSE @now
        END
    OUTPUT inserted.operational_state INTO @counted (state)
    WHERE id = @sensor_id AND operational_state IN ('INITIALIZING', 'STALE');

    SELECT
        @out_current_state = COALESCE(
            (SELECT c.state FROM @counted AS c),
            (SELECT s.operational_state FROM dbo.sensors AS s WHERE s.id = @sensor_id),
            'UNKNOWN'
        ),
        @out_can_generate_events = CASE
            WHEN EXISTS (SELECT 1 FROM @counted) THEN 0
            WHEN EXISTS (
                SELECT 1 FROM dbo.sensors AS s
                WHERE s.id = @sensor_id AND s.operational_state NOT IN ('INITIALIZING', 'STALE')
            ) THEN 1
            ELSE 0
        END;
END;
GO
IF OBJECT_ID(N'dbo.sp_auto_resolve_alerts', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_auto_resolve_alerts;
GO
-- Resolves the alerts of sensors whose newest reading came later and is beyond no bound as severe:
-- those that nobody saw end, because a bound was moved or taken away. The flow ends its own alerts:
-- a level may stand although the newest reading is inside the bound. Answers `resolved_count`.
CREATE PROCEDURE dbo.sp_auto_resolve_alerts
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    UPDATE a
    SET status = 'resolved', resolved_at = @now
    FROM dbo.alerts AS a
    INNER JOIN dbo.sensor_readings_latest AS l
        ON l.sensor_id = a.sensor_id AND l.latest_timestamp > a.triggered_at
    WHERE
        a.status IN ('active', 'acknowledged')
        AND a.event_key IS NULL
        AND NOT EXISTS (
            SELECT 1
            FROM dbo.v_threshold_bounds AS b
            INNER JOIN dbo.sensor_readings_latest AS n ON n.sensor_id = b.sensor_id
            WHERE
                b.sensor_id = a.sensor_id
                AND (
                    n.latest_value < b.low
                    OR n.latest_value > b.high
                    OR n.latest_value = b.equal_to
                )
                AND b.level >= CASE a.severity WHEN 'critical' THEN 2 ELSE 1 END
        );
    SELECT @@ROWCOUNT AS resolved_count;
END;
GO
IF OBJECT_ID(N'dbo.sp_cleanup_stale_alerts', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_cleanup_stale_alerts;
GO
-- Resolves the alerts that are older than that and whose sensors have sent nothing since: whether
-- they still stand nobody knows. Answers with `cleaned_count`.
CREATE PROCEDURE dbo.sp_cleanup_stale_alerts
    @ttl_minutes int = 60
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @before datetime2(6) = DATEADD(minute, -@ttl_minutes, @now);
    UPDATE a
    SET status = 'resolved', resolved_at = @now
    FROM dbo.alerts AS a
    LEFT JOIN dbo.sensor_readings_latest AS l ON l.sensor_id = a.sensor_id
    WHERE
        a.status IN ('active', 'acknowledged')
        AND a.triggered_at < @before
        AND (l.latest_timestamp IS NULL OR l.latest_timestamp < @before);
    SELECT @@ROWCOUNT AS cleaned_count;
END;
GO
IF OBJECT_ID(N'dbo.sp_cleanup_stale_ml_events', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_cleanup_stale_ml_events;
GO
-- Resolves the events that are older than that, a few thousand at a time. Answers with
-- `cleaned_count`.
CREATE PROCEDURE dbo.sp_cleanup_stale_ml_events
    @ttl_minutes int = 30
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @before datetime2(6) = DATEADD(minute, -@ttl_minutes, @now);
    DECLARE @cleaned int = 0;
    DECLARE @batch TABLE (id bigint NOT NULL PRIMARY KEY);
    WHILE 1 = 1
    BEGIN
        DELETE FROM @batch;
        INSERT INTO @batch (id)
        SELECT TOP (4000) e.id
        FROM dbo.ml_events AS e
        WHERE e.status IN ('active', 'acknowledged') AND e.created_at < @before
        ORDER BY e.id;
        IF @@ROWCOUNT = 0 BREAK;
        UPDATE e
        SET status = 'resolved', resolved_at = @now
        FROM dbo.ml_events AS e
        INNER JOIN @batch AS b ON b.id = e.id
        WHERE e.status IN ('active', 'acknowledged');
        SET @cleaned = @cleaned + @@ROWCOUNT;
    END;
    SELECT @cleaned AS cleaned_count;
END;
GO
IF OBJECT_ID(N'dbo.sp_create_alert_snapshot', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_create_alert_snapshot;
GO
-- Keeps what led to an alert, once: its bounds, and the readings from half an hour before it to
-- five minutes after, of many the nearest 500: [{"ts": ISO-8601, "value": number, "state": text}].
CREATE PROCEDURE dbo.sp_create_alert_snapshot
    @p_alert_id bigint
AS
BEGIN
    SET NOCOUNT ON;
    IF EXISTS (SELECT 1 FROM dbo.alert_snapshots AS n WHERE n.alert_id = @p_alert_id) RETURN;
    DECLARE @sensor bigint;
    DECLARE @at datetime2(6);
    SELECT @sensor = a.sensor_id, @at = a.triggered_at
    FROM dbo.alerts AS a
    WHERE a.id = @p_alert_id;

    DECLARE @bounds TABLE (
        level int NOT NULL,
        low decimal(15, 5) NULL,
        high decimal(15, 5) NULL,
        equal_to decimal(15, 5) NULL
    );
    INSERT INTO @bounds (level, low, high, equal_to)
    SELECT v.level, v.low, v.high, v.equal_to
    FROM dbo.v_threshold_bounds AS v
    WHERE v.sensor_id = @sensor;

    DECLARE @points TABLE (
        id bigint NOT NULL PRIMARY KEY,
        at datetime2(3) NOT NULL,
        value decimal(15, 5) NOT NULL
    );
    INSERT INTO @points (id, at, value)
    SELECT TOP (500) r.id, r.at, r.value
    FROM (
        SELECT o.id, o.event_timestamp AS at, o.value
        FROM dbo.sensor_readings AS o
        WHERE
            o.sensor_id = @sensor
            AND o.event_timestamp >= DATEADD(minute, -30, @at)
            AND o.event_timestamp <= DATEADD(minute, 5, @at)
        UNION ALL
        SELECT o.id, CAST(o.[timestamp] AS datetime2(3)), o.value
        FROM dbo.sensor_readings AS o
        WHERE
            o.sensor_id = @sensor
            AND o.event_timestamp IS NULL
            AND o.[timestamp] >= DATEADD(minute, -30, @at)
            AND o.[timestamp] <= DATEADD(minute, 5, @at)
    ) AS r
    ORDER BY ABS(DATEDIFF_BIG(millisecond, @at, r.at)), r.id;

    DECLARE @series nvarchar(max) = (
        SELECT
            p.value,
            FORMAT(p.at, N'yyyy-MM-ddTHH:mm:ss.fffZ', N'en-US') AS ts,
            COALESCE(
                (
                    SELECT CASE MAX(b.level) WHEN 2 THEN 'ALERT' WHEN 1 THEN 'WARNING' END
                    FROM @bounds AS b
                    WHERE p.value < b.low OR p.value > b.high OR p.value = b.equal_to
                ),
                'NORMAL'
            ) AS state
        FROM @points AS p
        ORDER BY p.at, p.id
        FOR JSON PATH
    );

    BEGIN TRY
        INSERT INTO dbo.alert_snapshots (
            alert_id, sensor_id, device_id, sensor_name, device_name, unit, sensor_type,
            triggered_at, triggered_value, severity, threshold_warning_min, threshold_warning_max,
            threshold_alert_min, threshold_alert_max, series_data, context_from, context_to,
            point_count, created_at
        )
        SELECT
            a.id,
            a.sensor_id,
            a.device_id,
            s.name,
            d.name,
            s.unit,
            s.sensor_type,
            a.triggered_at,
            a.triggered_value,
            a.severity,
            (SELECT MAX(b.low) FROM @bounds AS b WHERE b.level = 1),
            (SELECT MIN(b.high) FROM @bounds AS b WHERE b.level = 1),
            (SELECT MAX(b.low) FROM @bounds AS b WHERE b.level = 2),
            (SELECT MIN(b.high) FROM @bounds AS b WHERE b.level = 2),
            COALESCE(@series, N'[]'),
            COALESCE((SELECT MIN(p.at) FROM @points AS p), @at),
            COALESCE((SELECT MAX(p.at) FROM @points AS p), @at),
            (SELECT COUNT(*) FROM @points),
            SYSUTCDATETIME()
        FROM dbo.alerts AS a
        INNER JOIN dbo.sensors AS s ON s.id = a.sensor_id
        INNER JOIN dbo.devices AS d ON d.id = a.device_id
        WHERE
            a.id = @p_alert_id
            AND NOT EXISTS (SELECT 1 FROM dbo.alert_snapshots AS n WHERE n.alert_id = a.id);
    END TRY
    BEGIN CATCH
        -- another call was faster
        IF ERROR_NUMBER() NOT IN (2601, 2627) THROW;
    END CATCH;
END;
GO
IF OBJECT_ID(N'dbo.sp_try_process_event', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_try_process_event;
GO
-- The first call with an event's id gets 0, all others 1, whoever calls; at the same time they wait
-- until the first has committed.
CREATE PROCEDURE dbo.sp_try_process_event
    @event_id nvarchar(64),
    @consumer_id nvarchar(100),
    @event_type nvarchar(50) = NULL,
    @is_duplicate bit OUTPUT
AS
BEGIN
    SET NOCOUNT ON;
    SET @is_duplicate = 1;
    BEGIN TRY
        INSERT INTO dbo.processed_events (event_id, consumer_id, event_type, processed_at)
        SELECT @event_id, @consumer_id, @event_type, SYSUTCDATETIME()
        WHERE NOT EXISTS (SELECT 1 FROM dbo.processed_events AS p WHERE p.event_id = @event_id);
        IF @@ROWCOUNT = 1 SET @is_duplicate = 0;
    END TRY
    BEGIN CATCH
        IF ERROR_NUMBER() NOT IN (2601, 2627) THROW;
    END CATCH;
END;
GO
IF OBJECT_ID(N'dbo.sp_cleanup_old_processed_events', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_cleanup_old_processed_events;
GO
-- Forgets events, a few thousand at a time. Answers with `deleted_count`.
CREATE PROCEDURE dbo.sp_cleanup_old_processed_events
    @retention_days int
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @before datetime2(6) = DATEADD(day, -@retention_days, SYSUTCDATETIME());
    DECLARE @deleted int = 0;
    DECLARE @batch TABLE (event_id nvarchar(64) NOT NULL PRIMARY KEY);
    WHILE 1 = 1
    BEGIN
        DELETE FROM @batch;
        INSERT INTO @batch (event_id)
        SELECT TOP (4000) p.event_id
        FROM dbo.processed_events AS p
        WHERE p.processed_at < @before
        ORDER BY p.processed_at;
        IF @@ROWCOUNT = 0 BREAK;
        DELETE p
        FROM dbo.processed_events AS p
        INNER JOIN @batch AS b ON b.event_id = p.event_id;
        SET @deleted = @deleted + @@ROWCOUNT;
    END;
    SELECT @deleted AS deleted_count;
END;
GO
