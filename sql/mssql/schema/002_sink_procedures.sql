-- What the sinks call: one JSON parameter a batch, rows that are there already stay as they are.
-- A time in epoch milliseconds becomes datetime2 by days, seconds and milliseconds, which no int
-- overflows.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF OBJECT_ID(N'dbo.sp_sink_readings', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_sink_readings;
GO
CREATE PROCEDURE dbo.sp_sink_readings
    @p_rows nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @epoch datetime2(3) = '1970-01-01T00:00:00.000';
    INSERT INTO dbo.sensor_readings (
        sensor_id, value, [timestamp], device_timestamp, event_timestamp, seq
    )
    SELECT
        n.sensor_id, n.value, n.received_at, n.device_timestamp, n.event_timestamp, n.seq
    FROM (
        SELECT
            r.sensor_id,
            CAST(r.value AS decimal(15, 5)) AS value,
            DATEADD(millisecond, CAST(r.received_at % 1000 AS int),
                DATEADD(second, CAST(r.received_at / 1000 % 86400 AS int),
                    DATEADD(day, CAST(r.received_at / 86400000 AS int), @epoch))) AS received_at,
            DATEADD(millisecond, CAST(r.device_ts % 1000 AS int),
                DATEADD(second, CAST(r.device_ts / 1000 % 86400 AS int),
                    DATEADD(day, CAST(r.device_ts / 86400000 AS int), @epoch))) AS device_timestamp,
            DATEADD(millisecond, CAST(r.event_ts % 1000 AS int),
                DATEADD(second, CAST(r.event_ts / 1000 % 86400 AS int),
                    DATEADD(day, CAST(r.event_ts / 86400000 AS int), @epoch))) AS event_timestamp,
            r.seq
        FROM OPENJSON (@p_rows) WITH (
            sensor_id bigint '$[0]',
            value float '$[1]',
            received_at bigint '$[2]',
            device_ts bigint '$[3]',
            event_ts bigint '$[4]',
            seq int '$[5]'
        ) AS r
    ) AS n
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.sensor_readings AS s
        WHERE s.sensor_id = n.sensor_id AND s.event_timestamp = n.event_timestamp AND s.seq = n.seq
    );
END;
GO
IF OBJECT_ID(N'dbo.sp_sink_events', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_sink_events;
GO
CREATE PROCEDURE dbo.sp_sink_events
    @p_rows nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @epoch datetime2(3) = '1970-01-01T00:00:00.000';
    DECLARE @events TABLE (
        event_key varchar(64) NOT NULL PRIMARY KEY,
        device_id bigint NOT NULL,
        sensor_id bigint NULL,
        at datetime2(3) NOT NULL,
        event_type varchar(50) NOT NULL,
        event_code varchar(100) NOT NULL,
        title nvarchar(255) NOT NULL,
        message nvarchar(1000) NULL,
        value float NULL,
        payload nvarchar(max) NULL,
        resolves varchar(64) NULL,
        status varchar(50) NOT NULL
    );
    INSERT INTO @events (
        event_key, device_id, sensor_id, at, event_type, event_code, title, message, value, payload,
        resolves, status
    )
    SELECT
        r.event_key,
        r.device_id,
        r.sensor_id,
        DATEADD(millisecond, CAST(r.at % 1000 AS int),
            DATEADD(second, CAST(r.at / 1000 % 86400 AS int),
                DATEADD(day, CAST(r.at / 86400000 AS int), @epoch))),
        r.event_type,
        r.event_code,
        r.title,
        r.message,
        r.value,
        r.payload,
        r.resolves,
        r.status
    FROM OPENJSON (@p_rows) WITH (
        event_key varchar(64) '$[0]',
        device_id bigint '$[1]',
        sensor_id bigint '$[2]',
        at bigint '$[3]',
        event_type varchar(50) '$[4]',
        event_code varchar(100) '$[5]',
        title nvarchar(255) '$[6]',
        message nvarchar(1000) '$[7]',
        value float '$[8]',
        payload nvarchar(max) '$[9]' AS JSON,
        resolves varchar(64) '$[10]',
        status varchar(50) '$[11]'
    ) AS r;

    BEGIN TRANSACTION;
    INSERT INTO dbo.ml_events (
        event_key, device_id, sensor_id, created_at, event_type, event_code, title, message,
        payload, status, resolved_at
    )
    SELECT
        n.event_key,
        n.device_id,
        n.sensor_id,
        n.at,
        n.event_type,
        n.event_code,
        n.title,
        n.message,
        n.payload,
        n.status,
        CASE WHEN n.status = 'resolved' THEN n.at END
    FROM @events AS n
    WHERE NOT EXISTS (SELECT 1 FROM dbo.ml_events AS e WHERE e.event_key = n.event_key)
    ORDER BY n.at, n.event_key;

    INSERT INTO dbo.alert_notifications (
        event_key, source, source_event_id, severity, title, message, created_at, sensor_id,
        device_id, triggered_value, event_type
    )
    SELECT
        e.event_key,
        'ml_event',
        e.id,
        e.event_type,
        e.title,
        e.message,
        e.created_at,
        e.sensor_id,
        e.device_id,
        CAST(n.value AS decimal(15, 5)),
        e.event_type
    FROM @events AS n
    INNER JOIN dbo.ml_events AS e ON e.event_key = n.event_key
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.alert_notifications AS a WHERE a.event_key = n.event_key
    )
    ORDER BY e.id;

    UPDATE e
    SET status = 'resolved', resolved_at = n.at
    FROM dbo.ml_events AS e
    INNER JOIN @events AS n ON n.resolves = e.event_key
    WHERE e.status <> 'resolved';
    COMMIT TRANSACTION;
END;
GO
IF OBJECT_ID(N'dbo.sp_sink_dead_letter', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_sink_dead_letter;
GO
CREATE PROCEDURE dbo.sp_sink_dead_letter
    @p_sink varchar(50),
    @p_row_key varchar(64),
    @p_error nvarchar(2000),
    @p_row nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    INSERT INTO dbo.sink_dead_letters (sink, row_key, error, row_json)
    SELECT @p_sink, @p_row_key, @p_error, @p_row
    WHERE NOT EXISTS (SELECT 1 FROM dbo.sink_dead_letters AS d WHERE d.row_key = @p_row_key);
END;
GO
