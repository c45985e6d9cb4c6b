-- Keeps what time the device gave to a reading (`device_timestamp`), and knows each reading by
-- (sensor_id, event_timestamp, seq, value). Rows that are there get theirs in batches: the device's
-- time, else that of arrival. Can be applied alone, and again; applied again after a failure, it
-- continues. The procedures are those of patch_bulk_ingest.sql.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF COL_LENGTH(N'dbo.sensor_readings', N'device_timestamp') IS NULL
ALTER TABLE dbo.sensor_readings ADD device_timestamp datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.sensor_readings', N'event_timestamp') IS NULL
ALTER TABLE dbo.sensor_readings ADD event_timestamp datetime2(6) NULL;
GO
IF COL_LENGTH(N'dbo.sensor_readings', N'seq') IS NULL
ALTER TABLE dbo.sensor_readings ADD seq int NULL;
GO
-- the key of before, which knew milliseconds and no value
IF EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.sensor_readings')
        AND name LIKE N'ux[_]sensor[_]readings[_]event%'
)
DROP INDEX ux_sensor_readings_event ON dbo.sensor_readings;
GO
IF EXISTS (
    SELECT 1 FROM sys.columns
    WHERE
        object_id = OBJECT_ID(N'dbo.sensor_readings')
        AND name = N'event_timestamp'
        AND scale < 6
)
BEGIN
    -- an index that names the column keeps it from growing; it is made again below
    IF EXISTS (
        SELECT 1 FROM sys.indexes
        WHERE
            object_id = OBJECT_ID(N'dbo.sensor_readings')
            AND name LIKE N'ix[_]sensor[_]readings[_]undated%'
    )
    DROP INDEX ix_sensor_readings_undated ON dbo.sensor_readings;
    ALTER TABLE dbo.sensor_readings ALTER COLUMN event_timestamp datetime2(6);
END;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.sensor_readings')
        AND name LIKE N'ux[_]sensor[_]readings[_]identity%'
)
CREATE UNIQUE INDEX ux_sensor_readings_identity
ON dbo.sensor_readings (sensor_id, event_timestamp, seq, value)
WHERE event_timestamp IS NOT NULL;
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
DECLARE @rows int = 20000;
DECLARE @from bigint = (SELECT MIN(id) FROM dbo.sensor_readings WHERE event_timestamp IS NULL);
DECLARE @last bigint = (SELECT MAX(id) FROM dbo.sensor_readings);
WHILE @from <= @last
BEGIN
    UPDATE r
    SET event_timestamp = n.at, seq = n.seq
    FROM dbo.sensor_readings AS r
    INNER JOIN (
        SELECT
            o.id,
            o.at,
            ROW_NUMBER() OVER (PARTITION BY o.sensor_id, o.at ORDER BY o.id) - 1
            + COALESCE(
                (
                    SELECT MAX(s.seq) + 1 FROM dbo.sensor_readings AS s
                    WHERE
                        s.sensor_id = o.sensor_id
                        AND s.event_timestamp = o.at
                        AND s.event_timestamp IS NOT NULL
                ),
                0
            ) AS seq
        FROM (
            SELECT
                t.id,
                t.sensor_id,
                CAST(COALESCE(t.device_timestamp, t.[timestamp]) AS datetime2(6)) AS at
            FROM dbo.sensor_readings AS t
            WHERE t.id >= @from AND t.id < @from + @rows AND t.event_timestamp IS NULL
        ) AS o
    ) AS n ON n.id = r.id
    OPTION (RECOMPILE); -- a plan for so few rows
    SET @from = @from + @rows;
END;
GO
IF OBJECT_ID(N'dbo.sp_insert_readings_bulk_json_and_check_threshold', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_insert_readings_bulk_json_and_check_threshold;
GO
-- [{"sensor_id": int, "value": number, "device_timestamp"?: ISO-8601}, ...], all or nothing. A
-- reading with a device's time is known by it and its value, so that a repeated call changes
-- nothing. What is stored here has a `seq` below 0, and never takes the place of what the flow
-- stores. Of two calls that meet, one waits or tries again; neither is refused for the other.
CREATE PROCEDURE dbo.sp_insert_readings_bulk_json_and_check_threshold
    @p_readings_json nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @own int
        = -2147483647 + CAST(ABS(CAST(CHECKSUM(NEWID()) AS bigint)) % 1048576 AS int) * 1024;
    DECLARE @tries int = 0;
    -- an error ends the caller's transaction too, so only without one can we try again
    DECLARE @most int = CASE WHEN @@TRANCOUNT = 0 THEN 10 ELSE 0 END;
    DECLARE @readings TABLE (
        sensor_id bigint NULL,
        value decimal(15, 5) NULL,
        device_timestamp datetime2(6) NULL,
        event_timestamp datetime2(6) NOT NULL,
        seq int NOT NULL
    );
    INSERT INTO @readings (sensor_id, value, device_timestamp, event_timestamp, seq)
    SELECT
        t.sensor_id,
        t.value,
        t.said,
        t.at,
        -- what no device dated has a number of its call's own
        CASE WHEN t.dated = 1 THEN -1000000 ELSE @own END
        + ROW_NUMBER() OVER (PARTITION BY t.sensor_id, t.at, t.dated ORDER BY t.place)
    FROM (
        SELECT
            p.place,
            p.sensor_id,
            TRY_CAST(p.value AS decimal(15, 5)) AS value,
            p.said,
            CASE WHEN p.said <= DATEADD(minute, 5, @now) THEN 1 ELSE 0 END AS dated,
            CASE WHEN p.said <= DATEADD(minute, 5, @now) THEN p.said ELSE @now END AS at
        FROM (
            SELECT
                CAST(j.[key] AS int) AS place,
                r.sensor_id,
                r.value,
                CAST(SWITCHOFFSET(r.device_timestamp, '+00:00') AS datetime2(6)) AS said
            FROM OPENJSON(@p_readings_json) AS j
            CROSS APPLY OPENJSON (j.value) WITH (
                sensor_id bigint '$.sensor_id',
                value float '$.value',
                device_timestamp datetimeoffset(6) '$.device_timestamp'
            ) AS r
        ) AS p
    ) AS t;

    WHILE 1 = 1
    BEGIN
        BEGIN TRY
            BEGIN TRANSACTION;
            INSERT INTO dbo.sensor_readings (
                sensor_id, value, [timestamp], device_timestamp, event_timestamp, seq
            )
            SELECT n.sensor_id, n.value, @now, n.device_timestamp, n.event_timestamp, n.seq
            FROM @readings AS n
            WHERE NOT EXISTS (
                SELECT 1 FROM dbo.sensor_readings AS s
                WHERE
                    s.sensor_id = n.sensor_id
                    AND s.event_timestamp = n.event_timestamp
                    AND s.event_timestamp IS NOT NULL
                    AND s.seq = n.seq
                    AND s.value = n.value
            )
            ORDER BY n.sensor_id, n.event_timestamp, n.seq;
            COMMIT TRANSACTION;
            BREAK;
        END TRY
        BEGIN CATCH
            IF XACT_STATE() <> 0 ROLLBACK TRANSACTION;
            -- a key that another call took meanwhile, or a deadlock with it
            IF ERROR_NUMBER() NOT IN (1205, 2601, 2627) OR @tries >= @most
            BEGIN
                THROW;
            END;
            SET @tries = @tries + 1;
        END CATCH;
    END;
END;
GO
IF OBJECT_ID(N'dbo.sp_insert_reading_and_check_threshold', N'P') IS NOT NULL
DROP PROCEDURE dbo.sp_insert_reading_and_check_threshold;
GO
-- One reading, as in bulk. Answers with a row `alert_id` when it has raised an alert.
CREATE PROCEDURE dbo.sp_insert_reading_and_check_threshold
    @p_sensor_id bigint,
    @p_value decimal(15, 5),
    @p_device_timestamp datetime2(6) = NULL
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @last bigint = (
        SELECT COALESCE(MAX(a.id), 0) FROM dbo.alerts AS a WHERE a.sensor_id = @p_sensor_id
    );
    DECLARE @json nvarchar(max) = CONCAT(
        N'[{"sensor_id":', @p_sensor_id, N',"value":', @p_value,
        N',"device_timestamp":"' + CONVERT(nvarchar(30), @p_device_timestamp, 126) + N'"', N'}]'
    );
    EXEC dbo.sp_insert_readings_bulk_json_and_check_threshold @p_readings_json = @json;
    IF EXISTS (SELECT 1 FROM dbo.alerts AS a WHERE a.sensor_id = @p_sensor_id AND a.id > @last)
    SELECT a.id AS alert_id
    FROM dbo.alerts AS a
    WHERE a.sensor_id = @p_sensor_id AND a.id > @last;
END;
GO
