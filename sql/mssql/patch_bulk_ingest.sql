-- Readings in bulk, idempotent, and alerts for whoever inserts readings. Can be applied alone, to a
-- database with the tables of before, and again. What it needs it adds; nothing is dropped.
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
IF COL_LENGTH(N'dbo.sensors', N'operational_state') IS NULL
ALTER TABLE dbo.sensors ADD operational_state varchar(20) NOT NULL DEFAULT 'INITIALIZING';
GO
IF COL_LENGTH(N'dbo.sensors', N'valid_readings_count') IS NULL
ALTER TABLE dbo.sensors ADD valid_readings_count int NOT NULL DEFAULT 0;
GO
IF COL_LENGTH(N'dbo.sensors', N'min_readings_for_normal') IS NULL
ALTER TABLE dbo.sensors ADD min_readings_for_normal int NOT NULL DEFAULT 10;
GO
IF COL_LENGTH(N'dbo.sensors', N'state_changed_at') IS NULL
ALTER TABLE dbo.sensors ADD state_changed_at datetime2(6) NULL;
GO
IF OBJECT_ID(N'dbo.sensor_readings_latest', N'U') IS NULL
CREATE TABLE dbo.sensor_readings_latest (
    sensor_id bigint NOT NULL PRIMARY KEY REFERENCES dbo.sensors (id),
    latest_value decimal(15, 5) NOT NULL,
    latest_timestamp datetime2(6) NOT NULL
);
GO
IF OBJECT_ID(N'dbo.sensor_threshold_profiles', N'U') IS NULL
CREATE TABLE dbo.sensor_threshold_profiles (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    warning_min decimal(15, 5) NULL,
    warning_max decimal(15, 5) NULL,
    alert_min decimal(15, 5) NULL,
    alert_max decimal(15, 5) NULL,
    cooldown_seconds int NOT NULL DEFAULT 300,
    stale_threshold_ms bigint NOT NULL DEFAULT 86400000,
    updated_at datetime2(6) NULL,
    CONSTRAINT uq_sensor_threshold_profiles_sensor UNIQUE (sensor_id)
);
GO
IF OBJECT_ID(N'dbo.alerts', N'U') IS NULL
CREATE TABLE dbo.alerts (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    threshold_id bigint NULL REFERENCES dbo.alert_thresholds (id),
    sensor_id bigint NOT NULL REFERENCES dbo.sensors (id),
    device_id bigint NOT NULL REFERENCES dbo.devices (id),
    severity varchar(50) NOT NULL,
    status varchar(50) NOT NULL DEFAULT 'active',
    triggered_value decimal(15, 5) NOT NULL,
    triggered_at datetime2(6) NOT NULL,
    acknowledged_at datetime2(6) NULL,
    acknowledged_by bigint NULL,
    resolved_at datetime2(6) NULL,
    resolved_by bigint NULL
);
GO
-- an alert of a profile has no threshold
IF EXISTS (
    SELECT 1 FROM sys.columns
    WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name = N'threshold_id' AND is_nullable = 0
)
ALTER TABLE dbo.alerts ALTER COLUMN threshold_id bigint;
GO
-- of several active alerts of one severity the newest stays
UPDATE a
SET status = 'resolved', resolved_at = SYSUTCDATETIME()
FROM dbo.alerts AS a
WHERE
    a.status = 'active'
    AND EXISTS (
        SELECT 1 FROM dbo.alerts AS b
        WHERE
            b.sensor_id = a.sensor_id
            AND b.severity = a.severity
            AND b.status = 'active'
            AND b.id > a.id
    );
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name LIKE N'ux[_]alerts[_]active%'
)
CREATE UNIQUE INDEX ux_alerts_active ON dbo.alerts (sensor_id, severity) WHERE status = 'active';
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name LIKE N'ix[_]alerts[_]sensor%'
)
CREATE INDEX ix_alerts_sensor ON dbo.alerts (sensor_id, severity, triggered_at);
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name LIKE N'ix[_]alerts[_]standing%'
)
CREATE INDEX ix_alerts_standing ON dbo.alerts (sensor_id)
INCLUDE (severity, triggered_at)
WHERE status IN ('active', 'acknowledged');
GO
-- alerts that the flow raises: the event that raised them, and its incident; one of late readings
-- was over when it was found
IF COL_LENGTH(N'dbo.alerts', N'event_key') IS NULL
ALTER TABLE dbo.alerts ADD event_key varchar(64) NULL;
GO
IF COL_LENGTH(N'dbo.alerts', N'incident_key') IS NULL
ALTER TABLE dbo.alerts ADD incident_key varchar(64) NULL;
GO
IF COL_LENGTH(N'dbo.alerts', N'is_late') IS NULL
ALTER TABLE dbo.alerts ADD is_late bit NOT NULL DEFAULT 0;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name LIKE N'ux[_]alerts[_]event%'
)
CREATE UNIQUE INDEX ux_alerts_event ON dbo.alerts (event_key) WHERE event_key IS NOT NULL;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.alerts') AND name LIKE N'ix[_]alerts[_]incident%'
)
CREATE INDEX ix_alerts_incident ON dbo.alerts (incident_key) WHERE incident_key IS NOT NULL;
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
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE
        object_id = OBJECT_ID(N'dbo.alert_notifications')
        AND name LIKE N'ix[_]alert[_]notifications[_]source%'
)
CREATE INDEX ix_alert_notifications_source ON dbo.alert_notifications (source, source_event_id);
GO
-- What a reading must not be: below `low`, above `high`, or `equal_to`; level 2 is critical, 1 a
-- warning. Rows that make no sense bound nothing.
IF OBJECT_ID(N'dbo.v_threshold_bounds', N'V') IS NOT NULL DROP VIEW dbo.v_threshold_bounds;
GO
CREATE VIEW dbo.v_threshold_bounds
AS
SELECT
    t.sensor_id,
    t.id AS threshold_id,
    t.name,
    CASE t.severity WHEN 'critical' THEN 2 ELSE 1 END AS level,
    CASE
        WHEN t.condition_type IN ('less_than', 'out_of_range') THEN t.threshold_value_min
    END AS low,
    CASE t.condition_type
        WHEN 'greater_than' THEN t.threshold_value_min
        WHEN 'out_of_range' THEN t.threshold_value_max
    END AS high,
    CASE t.condition_type WHEN 'equal_to' THEN t.threshold_value_min END AS equal_to
FROM dbo.alert_thresholds AS t
WHERE
    t.is_active = 1
    AND t.severity IN ('warning', 'critical')
    AND (
        t.condition_type <> 'out_of_range'
        OR t.threshold_value_min IS NULL
        OR t.threshold_value_max IS NULL
        OR t.threshold_value_min <= t.threshold_value_max
    )
UNION ALL
SELECT
    p.sensor_id,
    NULL,
    CONCAT(N'profile ', p.id),
    1,
    p.warning_min,
    p.warning_max,
    NULL
FROM dbo.sensor_threshold_profiles AS p
UNION ALL
SELECT
    p.sensor_id,
    NULL,
    CONCAT(N'profile ', p.id),
    2,
    p.alert_min,
    p.alert_max,
    NULL
FROM dbo.sensor_threshold_profiles AS p;
GO
-- The state of a sensor that is past its warm-up, by the alerts that stand.
IF OBJECT_ID(N'dbo.v_alert_states', N'V') IS NOT NULL DROP VIEW dbo.v_alert_states;
GO
CREATE VIEW dbo.v_alert_states
AS
SELECT
    s.id AS sensor_id,
    CASE
        WHEN
            EXISTS (
                SELECT 1 FROM dbo.alerts AS a
                WHERE
                    a.sensor_id = s.id
                    AND a.status IN ('active', 'acknowledged')
                    AND a.severity = 'critical'
            )
            THEN 'ALERT'
        WHEN
            EXISTS (
                SELECT 1 FROM dbo.alerts AS a
                WHERE
                    a.sensor_id = s.id
                    AND a.status IN ('active', 'acknowledged')
                    AND a.severity = 'warning'
            )
            THEN 'WARNING'
        ELSE 'NORMAL'
    END AS state
FROM dbo.sensors AS s;
GO
IF OBJECT_ID(N'dbo.tr_sensor_readings_thresholds', N'TR') IS NOT NULL
DROP TRIGGER dbo.tr_sensor_readings_thresholds;
GO
-- The older trigger that made alerts, whatever its name, would make each of them twice: it is
-- switched off, not dropped.
DECLARE @disable nvarchar(max) = N'';
SELECT
    @disable = @disable
    + N'DISABLE TRIGGER dbo.' + QUOTENAME(t.name) + N' ON dbo.sensor_readings; '
FROM sys.triggers AS t
WHERE
    t.parent_id = OBJECT_ID(N'dbo.sensor_readings')
    AND t.is_disabled = 0
    AND LOWER(COALESCE(OBJECT_DEFINITION(t.object_id), N'alert')) LIKE N'%alert%';
PRINT @disable;
IF @disable <> N'' EXEC sp_executesql @disable;
GO
-- Whoever inserts readings, and however many: the newest value and the state of each sensor, when
-- its device was last heard, and its alerts. The flow judges its readings itself: those with a
-- `seq` from 0 on, which no other program sets. `sp_sink_events` writes their alerts, and they end
-- none here. All others are judged in the order in which they came. One
-- that is older than another before it, or from the future, is stored and not judged. A sensor's
-- first readings (`min_readings_for_normal`) are not judged either. A critical bound counts before
-- a warning one; one alert stands at a time, and a new one of its severity waits until
-- `cooldown_seconds` (300) after the last.
CREATE TRIGGER dbo.tr_sensor_readings_thresholds ON dbo.sensor_readings
AFTER INSERT
AS
BEGIN
    SET NOCOUNT ON;
    DECLARE @now datetime2(6) = SYSUTCDATETIME();
    DECLARE @never datetime2(6) = '0001-01-01T00:00:00';
    -- of each sensor the newest that is not from the future, and when the last of all came
    DECLARE @heard TABLE (
        sensor_id bigint NOT NULL PRIMARY KEY,
        device_id bigint NOT NULL,
        at datetime2(6) NULL,
        value decimal(15, 5) NULL,
        arrived datetime2(6) NOT NULL,
        is_new bit NOT NULL
    );
    -- what is read here of tables that are written below is not read again: two writers that scan
    -- each other's locked rows would be a deadlock
    INSERT INTO @heard (sensor_id, device_id, at, value, arrived, is_new)
    SELECT
        r.sensor_id,
        s.device_id,
        r.at,
        r.value,
        r.arrived,
        CASE WHEN l.sensor_id IS NULL THEN 1 ELSE 0 END
    FROM (
        SELECT
            a.sensor_id,
            a.at,
            a.value,
            MAX(a.arrived) OVER (PARTITION BY a.sensor_id) AS arrived,
            ROW_NUMBER() OVER (
                PARTITION BY a.sensor_id ORDER BY a.at DESC, a.arrived DESC, a.seq DESC, a.id DESC
            ) AS back
        FROM (
            SELECT
                i.id,
                i.sensor_id,
                i.value,
                i.seq,
                i.[timestamp] AS arrived,
                CASE
                    WHEN
                        COALESCE(i.event_timestamp, i.device_timestamp, i.[timestamp])
                        <= DATEADD(minute, 5, i.[timestamp])
                        THEN CAST(
                            COALESCE(i.event_timestamp, i.device_timestamp, i.[timestamp])
                            AS datetime2(6)
                        )
                END AS at
            FROM inserted AS i
        ) AS a
    ) AS r
    INNER JOIN dbo.sensors AS s ON s.id = r.sensor_id
    LEFT JOIN dbo.sensor_readings_latest AS l ON l.sensor_id = r.sensor_id
    WHERE r.back = 1;

    -- the sensors whose readings are taken one by one: all others were and stay normal
    DECLARE @watched TABLE (sensor_id bigint NOT NULL PRIMARY KEY);
    INSERT INTO @watched (sensor_id)
    SELECT s.id
    FROM dbo.sensors AS s
    INNER JOIN @heard AS h ON h.sensor_id = s.id
    WHERE s.operational_state <> 'NORMAL'
    UNION
    SELECT a.sensor_id
    FROM dbo.alerts AS a
    INNER JOIN @heard AS h ON h.sensor_id = a.sensor_id
    WHERE a.status IN ('active', 'acknowledged')
    UNION
    SELECT i.sensor_id
    FROM inserted AS i
    INNER JOIN dbo.v_threshold_bounds AS b ON b.sensor_id = i.sensor_id
    WHERE
        (i.seq IS NULL OR i.seq < 0)
        AND (i.value < b.low OR i.value > b.high OR i.value = b.equal_to);

    DECLARE @readings TABLE (
        sensor_id bigint NOT NULL,
        n int NOT NULL,
        at datetime2(6) NOT NULL,
        value decimal(15, 5) NOT NULL,
        judged bit NOT NULL,
        PRIMARY KEY (sensor_id, n)
    );
    INSERT INTO @readings (sensor_id, n, at, value, judged)
    SELECT
        o.sensor_id,
        ROW_NUMBER() OVER (PARTITION BY o.sensor_id ORDER BY o.n),
        o.at,
        o.value,
        CASE WHEN o.seq >= 0 THEN 0 ELSE 1 END
    FROM (
        SELECT
            i.sensor_id,
            i.n,
            i.at,
            i.value,
            i.seq,
            MAX(i.at) OVER (
                PARTITION BY i.sensor_id ORDER BY i.n
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS newest
        FROM (
            SELECT
                a.sensor_id,
                a.at,
                a.value,
                a.seq,
                ROW_NUMBER() OVER (
                    PARTITION BY a.sensor_id ORDER BY a.arrived, a.at, a.seq, a.id
                ) AS n
            FROM (
                SELECT
                    r.id,
                    r.sensor_id,
                    r.value,
                    r.seq,
                    r.[timestamp] AS arrived,
                    CAST(
                        COALESCE(r.event_timestamp, r.device_timestamp, r.[timestamp])
                        AS datetime2(6)
                    ) AS at
                FROM inserted AS r
                INNER JOIN @watched AS w ON w.sensor_id = r.sensor_id
            ) AS a
            WHERE a.at <= DATEADD(minute, 5, a.arrived)
        ) AS i
    ) AS o
    LEFT JOIN dbo.sensor_readings_latest AS l ON l.sensor_id = o.sensor_id
    WHERE
        o.at = o.newest
        AND (
            l.sensor_id IS NULL
            OR o.at >= l.latest_timestamp
            -- written in another time zone, or by a clock that was wrong
            OR l.latest_timestamp > DATEADD(minute, 5, @now)
        );

    DECLARE @over TABLE (
        sensor_id bigint NOT NULL,
        n int NOT NULL,
        level int NOT NULL,
        threshold_id bigint NULL,
        PRIMARY KEY (sensor_id, n)
    );
    INSERT INTO @over (sensor_id, n, level, threshold_id)
    SELECT
        r.sensor_id,
        r.n,
        MAX(b.level),
        CASE MAX(b.level)
            WHEN 2 THEN MIN(CASE WHEN b.level = 2 THEN b.threshold_id END)
            ELSE MIN(b.threshold_id)
        END
    FROM @readings AS r
    INNER JOIN dbo.v_threshold_bounds AS b ON b.sensor_id = r.sensor_id
    INNER JOIN dbo.sensors AS s ON s.id = r.sensor_id
    WHERE
        r.judged = 1
        AND (r.value < b.low OR r.value > b.high OR r.value = b.equal_to)
        AND r.n > CASE s.operational_state
            WHEN 'INITIALIZING' THEN s.min_readings_for_normal - s.valid_readings_count
            WHEN 'STALE' THEN s.min_readings_for_normal
            ELSE 0
        END
    GROUP BY r.sensor_id, r.n;

    -- what alerts stand, and from when on others may be raised
    DECLARE @standing TABLE (
        sensor_id bigint NOT NULL PRIMARY KEY,
        level int NOT NULL,
        cooldown int NOT NULL,
        warn_from datetime2(6) NOT NULL,
        alarm_from datetime2(6) NOT NULL
    );
    INSERT INTO @standing (sensor_id, level, cooldown, warn_from, alarm_from)
    SELECT s.sensor_id, s.level, COALESCE(p.cooldown_seconds, 300), @never, @never
    FROM (
        SELECT c.sensor_id, MAX(c.level) AS level
        FROM (
            SELECT o.sensor_id, 0 AS level FROM @over AS o
            UNION ALL
            SELECT
                a.sensor_id,
                CASE a.severity WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END
            FROM dbo.alerts AS a
            WHERE
                a.status IN ('active', 'acknowledged')
                AND a.sensor_id IN (SELECT r.sensor_id FROM @readings AS r WHERE r.judged = 1)
        ) AS c
        GROUP BY c.sensor_id
    ) AS s
    LEFT JOIN dbo.sensor_threshold_profiles AS p ON p.sensor_id = s.sensor_id;

    IF EXISTS (SELECT 1 FROM @standing)
    BEGIN
        UPDATE s
        SET
            warn_from = COALESCE(DATEADD(second, s.cooldown, w.at), @never),
            alarm_from = COALESCE(DATEADD(second, s.cooldown, c.at), @never)
        FROM @standing AS s
        LEFT JOIN (
            SELECT a.sensor_id, MAX(a.triggered_at) AS at
            FROM dbo.alerts AS a
            WHERE
                a.severity = 'warning'
                AND a.sensor_id IN (SELECT t.sensor_id FROM @standing AS t)
            GROUP BY a.sensor_id
        ) AS w ON w.sensor_id = s.sensor_id
        LEFT JOIN (
            SELECT a.sensor_id, MAX(a.triggered_at) AS at
            FROM dbo.alerts AS a
            WHERE
                a.severity = 'critical'
                AND a.sensor_id IN (SELECT t.sensor_id FROM @standing AS t)
            GROUP BY a.sensor_id
        ) AS c ON c.sensor_id = s.sensor_id;

        -- of the readings those that may change something: all that are over a bound, and the
        -- first after them that are not
        DECLARE @turns TABLE (
            sensor_id bigint NOT NULL,
            k int NOT NULL,
            at datetime2(6) NOT NULL,
            value decimal(15, 5) NOT NULL,
            level int NOT NULL,
            threshold_id bigint NULL,
            PRIMARY KEY (sensor_id, k)
        );
        INSERT INTO @turns (sensor_id, k, at, value, level, threshold_id)
        SELECT
            t.sensor_id,
            ROW_NUMBER() OVER (PARTITION BY t.sensor_id ORDER BY t.n),
            t.at,
            t.value,
            t.level,
            t.threshold_id
        FROM (
            SELECT
                r.sensor_id,
                r.n,
                r.at,
                r.value,
                COALESCE(o.level, 0) AS level,
                o.threshold_id,
                LAG(COALESCE(o.level, 0), 1, s.level) OVER (
                    PARTITION BY r.sensor_id ORDER BY r.n
                ) AS last_level
            FROM @readings AS r
            INNER JOIN @standing AS s ON s.sensor_id = r.sensor_id
            LEFT JOIN @over AS o ON o.sensor_id = r.sensor_id AND o.n = r.n
            WHERE r.judged = 1
        ) AS t
        WHERE t.level > 0 OR t.last_level > 0;

        DECLARE @steps TABLE (
            sensor_id bigint NOT NULL,
            k int NOT NULL,
            raised int NOT NULL,
            ended int NOT NULL,
            PRIMARY KEY (sensor_id, k)
        );
        WITH walk AS (
            SELECT
                s.sensor_id,
                0 AS k,
                s.level AS standing,
                s.cooldown,
                s.warn_from,
                s.alarm_from,
                0 AS raised,
                0 AS ended
            FROM @standing AS s
            UNION ALL
            SELECT
                w.sensor_id,
                t.k,
                CASE
                    WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from THEN 2
                    WHEN t.level = 1 AND w.standing <> 1 AND t.at >= w.warn_from THEN 1
                    WHEN t.level < w.standing THEN 0
                    ELSE w.standing
                END,
                w.cooldown,
                CASE
                    WHEN t.level = 1 AND w.standing <> 1 AND t.at >= w.warn_from
                        THEN CAST(DATEADD(second, w.cooldown, t.at) AS datetime2(6))
                    ELSE w.warn_from
                END,
                CASE
                    WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from
                        THEN CAST(DATEADD(second, w.cooldown, t.at) AS datetime2(6))
                    ELSE w.alarm_from
                END,
                CASE
                    WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from THEN 2
                    WHEN t.level = 1 AND w.standing <> 1 AND t.at >= w.warn_from THEN 1
                    ELSE 0
                END,
                CASE
                    WHEN w.standing = 0 THEN 0
                    WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from THEN 1
                    WHEN t.level < w.standing THEN 1
                    ELSE 0
                END
            FROM walk AS w
            INNER JOIN @turns AS t ON t.sensor_id = w.sensor_id AND t.k = w.k + 1
        )

        INSERT INTO @steps (sensor_id, k, raised, ended)
        SELECT w.sensor_id, w.k, w.raised, w.ended
        FROM walk AS w
        WHERE w.raised > 0 OR w.ended > 0
        OPTION (MAXRECURSION 0);

        UPDATE a
        SET status = 'resolved', resolved_at = e.at
        FROM dbo.alerts AS a
        INNER JOIN (
            SELECT s.sensor_id, MIN(t.at) AS at
            FROM @steps AS s
            INNER JOIN @turns AS t ON t.sensor_id = s.sensor_id AND t.k = s.k
            WHERE s.ended = 1
            GROUP BY s.sensor_id
        ) AS e ON e.sensor_id = a.sensor_id
        WHERE a.status IN ('active', 'acknowledged');

        INSERT INTO dbo.alerts (
            threshold_id, sensor_id, device_id, severity, status, triggered_value, triggered_at,
            resolved_at
        )
        SELECT
            t.threshold_id,
            t.sensor_id,
            d.device_id,
            CASE s.raised WHEN 2 THEN 'critical' ELSE 'warning' END,
            CASE WHEN e.at IS NULL THEN 'active' ELSE 'resolved' END,
            t.value,
            t.at,
            e.at
        FROM @steps AS s
        INNER JOIN @turns AS t ON t.sensor_id = s.sensor_id AND t.k = s.k
        INNER JOIN dbo.sensors AS d ON d.id = s.sensor_id
        OUTER APPLY (
            SELECT MIN(v.at) AS at
            FROM @steps AS u
            INNER JOIN @turns AS v ON v.sensor_id = u.sensor_id AND v.k = u.k
            WHERE u.sensor_id = s.sensor_id AND u.k > s.k AND u.ended = 1
        ) AS e
        WHERE s.raised > 0
        ORDER BY t.at, t.sensor_id;

        INSERT INTO dbo.alert_notifications (
            source, source_event_id, severity, title, message, is_read, created_at, sensor_id,
            device_id, triggered_value, event_type
        )
        SELECT DISTINCT
            'alert',
            a.id,
            a.severity,
            LEFT(CONCAT(
                CASE a.severity
                    WHEN 'critical' THEN N'Alerta cr' + NCHAR(237) + N'tica: '
                    ELSE N'Advertencia: '
                END,
                b.name
            ), 255),
            CONCAT(
                s.name, N' de ', d.name, N' marca ',
                FORMAT(CAST(a.triggered_value AS float), N'G', N'en-US'), N' ', s.unit,
                CASE
                    WHEN a.triggered_value > b.high
                        THEN CONCAT(
                            N', por encima de ', FORMAT(CAST(b.high AS float), N'G', N'en-US')
                        )
                    WHEN a.triggered_value < b.low
                        THEN CONCAT(
                            N', por debajo de ', FORMAT(CAST(b.low AS float), N'G', N'en-US')
                        )
                END,
                N'.'
            ),
            0,
            a.triggered_at,
            a.sensor_id,
            a.device_id,
            a.triggered_value,
            a.severity
        FROM @steps AS k
        INNER JOIN @turns AS t ON t.sensor_id = k.sensor_id AND t.k = k.k
        INNER JOIN dbo.alerts AS a
            ON
                a.sensor_id = t.sensor_id
                AND a.severity = CASE k.raised WHEN 2 THEN 'critical' ELSE 'warning' END
                AND a.triggered_at = t.at
        INNER JOIN dbo.sensors AS s ON s.id = a.sensor_id
        INNER JOIN dbo.devices AS d ON d.id = a.device_id
        OUTER APPLY (
            SELECT TOP (1) v.name, v.low, v.high
            FROM dbo.v_threshold_bounds AS v
            WHERE
                v.sensor_id = a.sensor_id
                AND v.level = k.raised
                AND (v.threshold_id = a.threshold_id OR a.threshold_id IS NULL)
            ORDER BY v.threshold_id
        ) AS b
        WHERE
            k.raised > 0
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alert_notifications AS o
                WHERE o.source = 'alert' AND o.source_event_id = a.id
            )
        ORDER BY a.id;
    END;

    DECLARE @newest TABLE (
        sensor_id bigint NOT NULL PRIMARY KEY,
        readings int NOT NULL,
        at datetime2(6) NOT NULL,
        judged bit NOT NULL,
        level int NOT NULL
    );
    INSERT INTO @newest (sensor_id, readings, at, judged, level)
    SELECT r.sensor_id, r.n, r.at, r.judged, COALESCE(o.level, 0)
    FROM (
        SELECT
            q.sensor_id,
            q.n,
            q.at,
            q.judged,
            ROW_NUMBER() OVER (PARTITION BY q.sensor_id ORDER BY q.n DESC) AS back
        FROM @readings AS q
    ) AS r
    LEFT JOIN @over AS o ON o.sensor_id = r.sensor_id AND o.n = r.n
    WHERE r.back = 1;

    UPDATE s
    SET
        valid_readings_count = x.valid,
        operational_state = x.state,
        state_changed_at = CASE
            WHEN s.operational_state = x.state THEN s.state_changed_at ELSE x.at
        END
    FROM dbo.sensors AS s
    INNER JOIN (
        SELECT
            z.id,
            r.at,
            CASE z.operational_state
                WHEN 'INITIALIZING' THEN z.valid_readings_count + r.readings
                WHEN 'STALE' THEN r.readings
                ELSE z.valid_readings_count
            END AS valid,
            CASE
                WHEN
                    z.operational_state = 'INITIALIZING'
                    AND z.valid_readings_count + r.readings < z.min_readings_for_normal
                    THEN 'INITIALIZING'
                WHEN z.operational_state = 'STALE' AND r.readings < z.min_readings_for_normal
                    THEN 'INITIALIZING'
                WHEN r.judged = 0 THEN v.state
                WHEN r.level = 2 THEN 'ALERT'
                WHEN r.level = 1 THEN 'WARNING'
                ELSE 'NORMAL'
            END AS state
        FROM @newest AS r
        INNER JOIN dbo.sensors AS z ON z.id = r.sensor_id
        INNER JOIN dbo.v_alert_states AS v ON v.sensor_id = z.id
    ) AS x ON x.id = s.id
    WHERE x.state <> s.operational_state OR x.valid <> s.valid_readings_count;

    UPDATE l
    SET latest_value = h.value, latest_timestamp = h.at
    FROM dbo.sensor_readings_latest AS l
    INNER JOIN @heard AS h ON h.sensor_id = l.sensor_id
    WHERE h.at >= l.latest_timestamp OR l.latest_timestamp > DATEADD(minute, 5, @now);

    INSERT INTO dbo.sensor_readings_latest (sensor_id, latest_value, latest_timestamp)
    SELECT h.sensor_id, h.value, h.at
    FROM @heard AS h
    WHERE h.is_new = 1 AND h.at IS NOT NULL;

    UPDATE d
    SET
        last_connection = x.at,
        status = CASE WHEN d.status IN ('offline', 'error') THEN 'online' ELSE d.status END
    FROM dbo.devices AS d
    INNER JOIN (
        SELECT h.device_id, MAX(h.arrived) AS at
        FROM @heard AS h
        GROUP BY h.device_id
    ) AS x ON x.device_id = d.id
    WHERE d.last_connection IS NULL OR d.last_connection < x.at OR d.last_connection > @now;
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
