-- What the sinks call: one JSON parameter a batch, rows that are there already stay as they are. A
-- number that does not fit becomes NULL, which its column refuses. `sp_sink_readings` answers with
-- the number of rows that are new.
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
    DECLARE @readings TABLE (
        sensor_id bigint NOT NULL,
        event_timestamp datetime2(6) NOT NULL,
        seq int NOT NULL,
        value decimal(15, 5) NULL,
        received_at datetime2(6) NOT NULL,
        device_timestamp datetime2(6) NULL
    );
    DECLARE @stored int;
    INSERT INTO @readings (
        sensor_id, event_timestamp, seq, value, received_at, device_timestamp
    )
    SELECT
        r.sensor_id,
        r.event_ts,
        r.seq,
        TRY_CAST(r.value AS decimal(15, 5)),
        r.received_at,
        r.device_ts
    FROM OPENJSON (@p_rows) WITH (
        sensor_id bigint '$[0]',
        value float '$[1]',
        received_at datetime2(6) '$[2]',
        device_ts datetime2(6) '$[3]',
        event_ts datetime2(6) '$[4]',
        seq int '$[5]'
    ) AS r;
    INSERT INTO dbo.sensor_readings (
        sensor_id, value, [timestamp], device_timestamp, event_timestamp, seq
    )
    SELECT
        n.sensor_id, n.value, n.received_at, n.device_timestamp, n.event_timestamp, n.seq
    FROM @readings AS n
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.sensor_readings AS s
        WHERE
            s.sensor_id = n.sensor_id
            AND s.event_timestamp = n.event_timestamp
            AND s.event_timestamp IS NOT NULL -- as the index says
            AND s.seq = n.seq
            AND s.value = n.value
    )
    ORDER BY n.sensor_id, n.event_timestamp, n.seq, n.value;
    SET @stored = @@ROWCOUNT;
    SELECT @stored AS stored;
END;
GO
-- A bucket that is there is replaced by one of at least as many readings.
IF OBJECT_ID(N'dbo.sp_sink_rollups', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_sink_rollups;
GO
CREATE PROCEDURE dbo.sp_sink_rollups
    @p_rows nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @buckets TABLE (
        period_ms int NOT NULL,
        sensor_id bigint NOT NULL,
        bucket_ts datetime2(3) NOT NULL,
        avg_value decimal(15, 5) NOT NULL,
        min_value decimal(15, 5) NOT NULL,
        max_value decimal(15, 5) NOT NULL,
        last_value decimal(15, 5) NOT NULL,
        samples int NOT NULL,
        PRIMARY KEY (period_ms, sensor_id, bucket_ts)
    );
    INSERT INTO @buckets (
        period_ms, sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
    )
    SELECT
        r.period_ms,
        r.sensor_id,
        r.bucket,
        TRY_CAST(r.avg_value AS decimal(15, 5)),
        TRY_CAST(r.min_value AS decimal(15, 5)),
        TRY_CAST(r.max_value AS decimal(15, 5)),
        TRY_CAST(r.last_value AS decimal(15, 5)),
        r.samples
    FROM OPENJSON (@p_rows) WITH (
        period_ms int '$[0]',
        sensor_id bigint '$[1]',
        bucket datetime2(3) '$[2]',
        avg_value float '$[3]',
        min_value float '$[4]',
        max_value float '$[5]',
        last_value float '$[6]',
        samples int '$[7]'
    ) AS r;

    BEGIN TRANSACTION;
    UPDATE t
    SET
        avg_value = n.avg_value,
        min_value = n.min_value,
        max_value = n.max_value,
        last_value = n.last_value,
        samples = n.samples
    FROM dbo.sensor_readings_1m AS t
    INNER JOIN @buckets AS n ON n.sensor_id = t.sensor_id AND n.bucket_ts = t.bucket_ts
    WHERE n.period_ms = 60000 AND n.samples >= t.samples;

    INSERT INTO dbo.sensor_readings_1m (
        sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
    )
    SELECT
        n.sensor_id, n.bucket_ts, n.avg_value, n.min_value, n.max_value, n.last_value, n.samples
    FROM @buckets AS n
    WHERE
        n.period_ms = 60000
        AND NOT EXISTS (
            SELECT 1 FROM dbo.sensor_readings_1m AS t
            WHERE t.sensor_id = n.sensor_id AND t.bucket_ts = n.bucket_ts
        );

    UPDATE t
    SET
        avg_value = n.avg_value,
        min_value = n.min_value,
        max_value = n.max_value,
        last_value = n.last_value,
        samples = n.samples
    FROM dbo.sensor_readings_5m AS t
    INNER JOIN @buckets AS n ON n.sensor_id = t.sensor_id AND n.bucket_ts = t.bucket_ts
    WHERE n.period_ms = 300000 AND n.samples >= t.samples;

    INSERT INTO dbo.sensor_readings_5m (
        sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
    )
    SELECT
        n.sensor_id, n.bucket_ts, n.avg_value, n.min_value, n.max_value, n.last_value, n.samples
    FROM @buckets AS n
    WHERE
        n.period_ms = 300000
        AND NOT EXISTS (
            SELECT 1 FROM dbo.sensor_readings_5m AS t
            WHERE t.sensor_id = n.sensor_id AND t.bucket_ts = n.bucket_ts
        );

    UPDATE t
    SET
        avg_value = n.avg_value,
        min_value = n.min_value,
        max_value = n.max_value,
        last_value = n.last_value,
        samples = n.samples
    FROM dbo.sensor_readings_1h AS t
    INNER JOIN @buckets AS n ON n.sensor_id = t.sensor_id AND n.bucket_ts = t.bucket_ts
    WHERE n.period_ms = 3600000 AND n.samples >= t.samples;

    INSERT INTO dbo.sensor_readings_1h (
        sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
    )
    SELECT
        n.sensor_id, n.bucket_ts, n.avg_value, n.min_value, n.max_value, n.last_value, n.samples
    FROM @buckets AS n
    WHERE
        n.period_ms = 3600000
        AND NOT EXISTS (
            SELECT 1 FROM dbo.sensor_readings_1h AS t
            WHERE t.sensor_id = n.sensor_id AND t.bucket_ts = n.bucket_ts
        );
    COMMIT TRANSACTION;
END;
GO
-- Model 0 is the sensor's baseline, which is made when the sensor has none.
IF OBJECT_ID(N'dbo.sp_sink_predictions', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_sink_predictions;
GO
CREATE PROCEDURE dbo.sp_sink_predictions
    @p_rows nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @rows TABLE (
        model_id bigint NOT NULL,
        sensor_id bigint NOT NULL,
        device_id bigint NOT NULL,
        predicted_at datetime2(3) NOT NULL,
        target datetime2(3) NOT NULL,
        value decimal(15, 5) NOT NULL,
        confidence decimal(5, 4) NOT NULL,
        window_points int NOT NULL,
        trend varchar(10) NOT NULL,
        horizon_minutes int NOT NULL,
        risk_level varchar(20) NOT NULL,
        severity varchar(50) NOT NULL,
        explanation nvarchar(max) NULL,
        engine_name varchar(50) NULL,
        PRIMARY KEY (model_id, sensor_id, predicted_at, horizon_minutes, window_points)
    );
    -- a flow of an earlier version sends no risk and no text
    INSERT INTO @rows (
        model_id, sensor_id, device_id, predicted_at, target, value, confidence, window_points,
        trend, horizon_minutes, risk_level, severity, explanation, engine_name
    )
    SELECT
        r.model_id,
        r.sensor_id,
        r.device_id,
        r.predicted_at,
        r.target,
        TRY_CAST(r.value AS decimal(15, 5)),
        TRY_CAST(r.confidence AS decimal(5, 4)),
        r.window_points,
        r.trend,
        r.horizon_minutes,
        COALESCE(r.risk_level, 'NONE'),
        COALESCE(r.severity, 'info'),
        r.explanation,
        r.engine_name
    FROM OPENJSON (@p_rows) WITH (
        model_id bigint '$[0]',
        sensor_id bigint '$[1]',
        device_id bigint '$[2]',
        predicted_at datetime2(3) '$[3]',
        target datetime2(3) '$[4]',
        value float '$[5]',
        confidence float '$[6]',
        window_points int '$[7]',
        trend varchar(10) '$[8]',
        horizon_minutes int '$[9]',
        risk_level varchar(20) '$[10]',
        severity varchar(50) '$[11]',
        explanation nvarchar(max) '$[12]' AS JSON,
        engine_name varchar(50) '$[13]'
    ) AS r;

    BEGIN TRANSACTION;
    INSERT INTO dbo.ml_models (
        sensor_id, model_name, model_type, version, is_active, trained_at
    )
    SELECT n.sensor_id, 'baseline_moving_average', 'baseline', '1.0.0', 1, MIN(n.predicted_at)
    FROM @rows AS n
    WHERE
        n.model_id = 0
        AND NOT EXISTS (
            SELECT 1 FROM dbo.ml_models AS m
            WHERE m.sensor_id = n.sensor_id AND m.model_name = 'baseline_moving_average'
        )
    GROUP BY n.sensor_id
    ORDER BY n.sensor_id;

    INSERT INTO dbo.predictions (
        model_id, sensor_id, device_id, predicted_value, confidence, predicted_at,
        target_timestamp, horizon_minutes, window_points, trend, is_anomaly, anomaly_score,
        risk_level, severity, status, explanation, engine_name, event_predicted_at
    )
    SELECT
        n.model_id,
        n.sensor_id,
        n.device_id,
        n.value,
        n.confidence,
        n.predicted_at,
        n.target,
        n.horizon_minutes,
        n.window_points,
        n.trend,
        0,
        0,
        n.risk_level,
        n.severity,
        'active',
        n.explanation,
        n.engine_name,
        n.predicted_at
    FROM (
        SELECT
            CASE WHEN r.model_id = 0 THEN b.model_id ELSE r.model_id END AS model_id,
            r.sensor_id,
            r.device_id,
            r.predicted_at,
            r.target,
            r.value,
            r.confidence,
            r.window_points,
            r.trend,
            r.horizon_minutes,
            r.risk_level,
            r.severity,
            r.explanation,
            r.engine_name
        FROM @rows AS r
        LEFT JOIN (
            SELECT m.sensor_id, MIN(m.id) AS model_id
            FROM dbo.ml_models AS m
            WHERE m.model_name = 'baseline_moving_average'
            GROUP BY m.sensor_id
        ) AS b ON b.sensor_id = r.sensor_id
    ) AS n
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.predictions AS p
        WHERE
            p.model_id = n.model_id
            AND p.sensor_id = n.sensor_id
            AND p.event_predicted_at = n.predicted_at
            AND p.event_predicted_at IS NOT NULL
            AND p.horizon_minutes = n.horizon_minutes
            AND p.window_points = n.window_points
    )
    ORDER BY n.predicted_at, n.sensor_id, n.model_id, n.horizon_minutes, n.window_points;
    COMMIT TRANSACTION;
END;
GO
-- A silent event's notification is stored as read; rows without that column are not silent.
--
-- A new event may also change the alerts of its sensor. The stored rows decide what it changes, in
-- the same transaction: an event that is written again changes nothing, and the alerts that other
-- programs have raised count too. The events of a sensor change its alerts one after the other. An
-- alert that was raised within the cooldown before an event stands again instead of a new one,
-- unless a person has resolved it.
IF OBJECT_ID(N'dbo.sp_sink_events', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_sink_events;
GO
CREATE PROCEDURE dbo.sp_sink_events
    @p_rows nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
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
        status varchar(50) NOT NULL,
        silent bit NULL,
        incident_key varchar(64) NULL,
        escalates bit NULL,
        alert_level int NULL,
        threshold_id bigint NULL,
        alert_title nvarchar(255) NULL,
        late bit NULL
    );
    DECLARE @changes TABLE (
        event_key varchar(64) NOT NULL PRIMARY KEY,
        incident_key varchar(64) NULL,
        sensor_id bigint NOT NULL,
        device_id bigint NOT NULL,
        turn int NOT NULL,
        at datetime2(3) NOT NULL,
        value decimal(15, 5) NULL,
        level int NOT NULL,
        severity varchar(50) NOT NULL,
        threshold_id bigint NULL,
        cooldown_from datetime2(3) NOT NULL,
        late bit NOT NULL
    );
    DECLARE @turn int = 1;
    DECLARE @turns int;
    INSERT INTO @events (
        event_key, device_id, sensor_id, at, event_type, event_code, title, message, value, payload,
        resolves, status, silent, incident_key, escalates, alert_level, threshold_id, alert_title,
        late
    )
    SELECT
        r.event_key,
        r.device_id,
        r.sensor_id,
        r.at,
        r.event_type,
        r.event_code,
        r.title,
        r.message,
        r.value,
        r.payload,
        r.resolves,
        r.status,
        r.silent,
        r.incident_key,
        r.escalates,
        r.alert_level,
        r.threshold_id,
        r.alert_title,
        r.late
    FROM OPENJSON (@p_rows) WITH (
        event_key varchar(64) '$[0]',
        device_id bigint '$[1]',
        sensor_id bigint '$[2]',
        at datetime2(3) '$[3]',
        event_type varchar(50) '$[4]',
        event_code varchar(100) '$[5]',
        title nvarchar(max) '$[6]', -- whole, so that one that is too long is refused
        message nvarchar(max) '$[7]',
        value float '$[8]',
        payload nvarchar(max) '$[9]' AS JSON,
        resolves varchar(64) '$[10]',
        status varchar(50) '$[11]',
        silent bit '$[12]',
        incident_key varchar(64) '$[13]',
        escalates bit '$[14]',
        alert_level int '$[15]',
        threshold_id bigint '$[16]',
        alert_title nvarchar(255) '$[17]',
        late bit '$[18]'
    ) AS r;

    BEGIN TRANSACTION;
    INSERT INTO @changes (
        event_key, incident_key, sensor_id, device_id, turn, at, value, level, severity,
        threshold_id, cooldown_from, late
    )
    SELECT
        n.event_key,
        n.incident_key,
        n.sensor_id,
        n.device_id,
        ROW_NUMBER() OVER (PARTITION BY n.sensor_id, n.late ORDER BY n.at, n.event_key),
        n.at,
        CAST(n.value AS decimal(15, 5)),
        n.alert_level,
        CASE n.alert_level WHEN 2 THEN 'critical' WHEN 1 THEN 'warning' ELSE '' END,
        t.id, -- the row may be gone
        DATEADD(second, -COALESCE(p.cooldown_seconds, 300), n.at),
        n.late
    FROM @events AS n
    LEFT JOIN dbo.alert_thresholds AS t ON t.id = n.threshold_id
    LEFT JOIN dbo.sensor_threshold_profiles AS p ON p.sensor_id = n.sensor_id
    WHERE
        n.alert_level IS NOT NULL
        AND NOT EXISTS (
            SELECT 1 FROM dbo.ml_events AS e
            WHERE e.event_key = n.event_key AND e.event_key IS NOT NULL
        );

    INSERT INTO dbo.ml_events (
        event_key, device_id, sensor_id, created_at, event_type, event_code, title, message,
        payload, status, resolved_at, incident_key
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
        CASE WHEN n.status = 'resolved' THEN n.at END,
        n.incident_key
    FROM @events AS n
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.ml_events AS e
        WHERE e.event_key = n.event_key AND e.event_key IS NOT NULL
    )
    ORDER BY n.at, n.event_key;

    INSERT INTO dbo.alert_notifications (
        event_key, source, source_event_id, severity, title, message, is_read, created_at, read_at,
        sensor_id, device_id, triggered_value, event_type, incident_key
    )
    SELECT
        e.event_key,
        'ml_event',
        e.id,
        e.event_type,
        e.title,
        e.message,
        CASE WHEN n.silent = 1 THEN 1 ELSE 0 END,
        e.created_at,
        CASE WHEN n.silent = 1 THEN e.created_at END,
        e.sensor_id,
        e.device_id,
        CAST(n.value AS decimal(15, 5)),
        e.event_type,
        e.incident_key
    FROM @events AS n
    INNER JOIN dbo.ml_events AS e ON e.event_key = n.event_key AND e.event_key IS NOT NULL
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.alert_notifications AS a
        WHERE a.event_key = n.event_key AND a.event_key IS NOT NULL
    )
    ORDER BY e.id;

    UPDATE e
    SET status = 'resolved', resolved_at = n.at
    FROM dbo.ml_events AS e
    INNER JOIN @events AS n ON n.resolves = e.event_key
    WHERE e.status NOT IN ('resolved', 'superseded') AND e.event_key IS NOT NULL;

    -- an event that escalates takes the place of the incident's earlier notifications
    UPDATE a
    SET is_read = 1, read_at = n.at
    FROM dbo.alert_notifications AS a
    INNER JOIN @events AS n ON n.incident_key = a.incident_key
    WHERE
        n.escalates = 1
        AND a.incident_key IS NOT NULL
        AND a.event_key <> n.event_key
        AND a.created_at <= n.at
        AND a.is_read = 0;

    SET @turns = (SELECT COALESCE(MAX(c.turn), 0) FROM @changes AS c WHERE c.late = 0);
    WHILE @turn <= @turns
    BEGIN
        UPDATE a
        SET
            status = CASE WHEN a.acknowledged_at IS NULL THEN 'active' ELSE 'acknowledged' END,
            resolved_at = NULL
        FROM dbo.alerts AS a
        INNER JOIN @changes AS c ON c.sensor_id = a.sensor_id AND c.severity = a.severity
        WHERE
            c.turn = @turn
            AND c.late = 0
            AND a.is_late = 0
            AND a.triggered_at > c.cooldown_from
            AND a.status = 'resolved'
            AND a.resolved_by IS NULL
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alerts AS o
                WHERE
                    o.sensor_id = a.sensor_id
                    AND o.severity = a.severity
                    AND (
                        o.status IN ('active', 'acknowledged')
                        OR (
                            o.is_late = 0
                            AND (
                                o.triggered_at > a.triggered_at
                                OR (o.triggered_at = a.triggered_at AND o.id > a.id)
                            )
                        )
                    )
            );

        INSERT INTO dbo.alerts (
            event_key, incident_key, threshold_id, sensor_id, device_id, severity, status,
            triggered_value, triggered_at
        )
        SELECT
            c.event_key,
            c.incident_key,
            c.threshold_id,
            c.sensor_id,
            c.device_id,
            c.severity,
            'active',
            c.value,
            c.at
        FROM @changes AS c
        WHERE
            c.turn = @turn
            AND c.late = 0
            AND c.level > 0
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alerts AS a
                WHERE
                    a.sensor_id = c.sensor_id
                    AND a.severity = c.severity
                    AND a.status IN ('active', 'acknowledged')
            )
            AND NOT EXISTS (
                SELECT 1 FROM dbo.alerts AS a
                WHERE
                    a.sensor_id = c.sensor_id
                    AND a.severity = c.severity
                    AND a.triggered_at > c.cooldown_from
                    AND a.is_late = 0
            )
        ORDER BY c.at, c.sensor_id;

        -- a warning stays where the critical alert may not be raised again yet
        UPDATE a
        SET status = 'resolved', resolved_at = c.at
        FROM dbo.alerts AS a
        INNER JOIN @changes AS c ON c.sensor_id = a.sensor_id
        WHERE
            c.turn = @turn
            AND c.late = 0
            AND a.status IN ('active', 'acknowledged')
            AND a.severity <> c.severity
            AND (
                c.level < 2
                OR c.severity IN (
                    SELECT o.severity FROM dbo.alerts AS o
                    WHERE
                        o.sensor_id = a.sensor_id
                        AND o.status IN ('active', 'acknowledged')
                )
            );

        UPDATE s
        SET operational_state = v.state, state_changed_at = c.at
        FROM dbo.sensors AS s
        INNER JOIN @changes AS c ON c.sensor_id = s.id
        INNER JOIN dbo.v_alert_states AS v ON v.sensor_id = s.id
        WHERE
            c.turn = @turn
            AND c.late = 0
            AND s.operational_state NOT IN ('INITIALIZING', 'STALE')
            AND s.operational_state <> v.state;
        SET @turn = @turn + 1;
    END;

    -- the alert of a late event ends with it
    INSERT INTO dbo.alerts (
        event_key, incident_key, threshold_id, sensor_id, device_id, severity, status,
        triggered_value, triggered_at, resolved_at, is_late
    )
    SELECT
        c.event_key,
        c.incident_key,
        c.threshold_id,
        c.sensor_id,
        c.device_id,
        c.severity,
        'resolved',
        c.value,
        c.at,
        c.at,
        1
    FROM @changes AS c
    WHERE c.late = 1 AND c.level > 0
    ORDER BY c.at, c.event_key;

    UPDATE a
    SET resolved_at = n.at
    FROM dbo.alerts AS a
    INNER JOIN @events AS n ON n.resolves = a.event_key
    WHERE a.is_late = 1 AND a.event_key IS NOT NULL;

    -- one incident rings once: that is the notification of its event
    INSERT INTO dbo.alert_notifications (
        source, source_event_id, severity, title, message, is_read, created_at, read_at, sensor_id,
        device_id, triggered_value, event_type, incident_key
    )
    SELECT
        'alert',
        a.id,
        a.severity,
        n.alert_title,
        n.message,
        1,
        a.triggered_at,
        a.triggered_at,
        a.sensor_id,
        a.device_id,
        a.triggered_value,
        a.severity,
        a.incident_key
    FROM @events AS n
    INNER JOIN @changes AS c ON c.event_key = n.event_key
    INNER JOIN dbo.alerts AS a ON a.event_key = n.event_key AND a.event_key IS NOT NULL
    ORDER BY a.id;
    COMMIT TRANSACTION;
END;
GO
-- What a replay found about events: rows of status 'superseded' no longer hold, and of the others
-- those that are missing come, those that are there get the texts, and their status and end where
-- `ends` is set or they were superseded. What a person has resolved stays so. A notification that
-- comes, or whose event holds again, is read when it is silent. The alert of an event that no
-- longer holds is resolved at the end of that event, or at its time if it has not ended.
IF OBJECT_ID(N'dbo.sp_sink_corrections', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_sink_corrections;
GO
CREATE PROCEDURE dbo.sp_sink_corrections
    @p_rows nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @now datetime2(3) = SYSUTCDATETIME();
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
        resolved_at datetime2(3) NULL,
        status varchar(50) NOT NULL,
        silent bit NOT NULL,
        ends bit NOT NULL,
        incident_key varchar(64) NULL
    );
    INSERT INTO @events (
        event_key, device_id, sensor_id, at, event_type, event_code, title, message, value, payload,
        resolved_at, status, silent, ends, incident_key
    )
    SELECT
        r.event_key,
        r.device_id,
        r.sensor_id,
        r.at,
        r.event_type,
        r.event_code,
        r.title,
        r.message,
        r.value,
        r.payload,
        r.resolved_at,
        r.status,
        r.silent,
        r.ends,
        r.incident_key
    FROM OPENJSON (@p_rows) WITH (
        event_key varchar(64) '$[0]',
        device_id bigint '$[1]',
        sensor_id bigint '$[2]',
        at datetime2(3) '$[3]',
        event_type varchar(50) '$[4]',
        event_code varchar(100) '$[5]',
        title nvarchar(max) '$[6]', -- whole, so that one that is too long is refused
        message nvarchar(max) '$[7]',
        value float '$[8]',
        payload nvarchar(max) '$[9]' AS JSON,
        resolved_at datetime2(3) '$[10]',
        status varchar(50) '$[11]',
        silent bit '$[12]',
        ends bit '$[13]',
        incident_key varchar(64) '$[14]'
    ) AS r;

    BEGIN TRANSACTION;
    UPDATE a
    SET
        is_read = n.silent,
        read_at = CASE WHEN n.silent = 1 THEN @now END
    FROM dbo.alert_notifications AS a
    INNER JOIN @events AS n ON n.event_key = a.event_key
    INNER JOIN dbo.ml_events AS e ON e.event_key = n.event_key
    WHERE
        n.status <> 'superseded'
        AND e.status = 'superseded'
        AND a.event_key IS NOT NULL
        AND e.event_key IS NOT NULL;

    UPDATE a
    SET is_read = 1, read_at = @now
    FROM dbo.alert_notifications AS a
    INNER JOIN @events AS n ON n.event_key = a.event_key
    WHERE n.status = 'superseded' AND a.is_read = 0 AND a.event_key IS NOT NULL;

    UPDATE a
    SET status = 'resolved', resolved_at = COALESCE(n.resolved_at, n.at)
    FROM dbo.alerts AS a
    INNER JOIN @events AS n ON n.event_key = a.event_key
    WHERE
        n.status = 'superseded'
        AND a.status IN ('active', 'acknowledged')
        AND a.event_key IS NOT NULL;

    UPDATE s
    SET operational_state = v.state, state_changed_at = @now
    FROM dbo.sensors AS s
    INNER JOIN dbo.v_alert_states AS v ON v.sensor_id = s.id
    WHERE
        s.id IN (SELECT n.sensor_id FROM @events AS n WHERE n.status = 'superseded')
        AND s.operational_state NOT IN ('INITIALIZING', 'STALE')
        AND s.operational_state <> v.state;

    UPDATE e
    SET
        status = CASE
            WHEN n.status = 'superseded' THEN 'superseded'
            WHEN e.resolved_by IS NOT NULL THEN 'resolved'
            WHEN n.status = 'active' AND e.acknowledged_at IS NOT NULL THEN 'acknowledged'
            ELSE n.status
        END,
        resolved_at = CASE
            WHEN n.status = 'superseded' OR e.resolved_by IS NOT NULL THEN e.resolved_at
            ELSE n.resolved_at
        END
    FROM dbo.ml_events AS e
    INNER JOIN @events AS n ON n.event_key = e.event_key
    WHERE
        (n.ends = 1 OR n.status = 'superseded' OR e.status = 'superseded')
        AND e.event_key IS NOT NULL;

    UPDATE e
    SET
        event_type = n.event_type,
        title = n.title,
        message = n.message,
        payload = n.payload,
        incident_key = n.incident_key
    FROM dbo.ml_events AS e
    INNER JOIN @events AS n ON n.event_key = e.event_key
    WHERE n.status <> 'superseded' AND e.event_key IS NOT NULL;

    INSERT INTO dbo.ml_events (
        event_key, device_id, sensor_id, created_at, event_type, event_code, title, message,
        payload, status, resolved_at, incident_key
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
        n.resolved_at,
        n.incident_key
    FROM @events AS n
    WHERE
        n.status <> 'superseded'
        AND NOT EXISTS (
            SELECT 1 FROM dbo.ml_events AS e
            WHERE e.event_key = n.event_key AND e.event_key IS NOT NULL
        )
    ORDER BY n.at, n.event_key;

    UPDATE a
    SET
        severity = n.event_type,
        title = n.title,
        message = n.message,
        triggered_value = CAST(n.value AS decimal(15, 5)),
        event_type = n.event_type,
        incident_key = n.incident_key
    FROM dbo.alert_notifications AS a
    INNER JOIN @events AS n ON n.event_key = a.event_key
    WHERE n.status <> 'superseded' AND a.event_key IS NOT NULL;

    INSERT INTO dbo.alert_notifications (
        event_key, source, source_event_id, severity, title, message, is_read, created_at, read_at,
        sensor_id, device_id, triggered_value, event_type, incident_key
    )
    SELECT
        e.event_key,
        'ml_event',
        e.id,
        e.event_type,
        e.title,
        e.message,
        n.silent,
        e.created_at,
        CASE WHEN n.silent = 1 THEN e.created_at END,
        e.sensor_id,
        e.device_id,
        CAST(n.value AS decimal(15, 5)),
        e.event_type,
        e.incident_key
    FROM @events AS n
    INNER JOIN dbo.ml_events AS e ON e.event_key = n.event_key AND e.event_key IS NOT NULL
    WHERE
        n.status <> 'superseded'
        AND NOT EXISTS (
            SELECT 1 FROM dbo.alert_notifications AS a
            WHERE a.event_key = n.event_key AND a.event_key IS NOT NULL
        )
    ORDER BY e.id;
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
-- How far a flow has stored the log: rows [topic, partition, topic id or null, offset of the last
-- record]. Each takes the place of the one before.
IF OBJECT_ID(N'dbo.sp_write_progress', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_write_progress;
GO
CREATE PROCEDURE dbo.sp_write_progress
    @p_rows nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @now datetime2(3) = SYSUTCDATETIME();
    DECLARE @rows TABLE (
        topic varchar(249) NOT NULL,
        partition_number int NOT NULL,
        topic_id varchar(40) NULL,
        last_offset bigint NOT NULL,
        PRIMARY KEY (topic, partition_number)
    );
    INSERT INTO @rows (topic, partition_number, topic_id, last_offset)
    SELECT r.topic, r.partition_number, r.topic_id, r.last_offset
    FROM OPENJSON (@p_rows) WITH (
        topic varchar(249) '$[0]',
        partition_number int '$[1]',
        topic_id varchar(40) '$[2]',
        last_offset bigint '$[3]'
    ) AS r;

    BEGIN TRANSACTION;
    UPDATE p
    SET topic_id = n.topic_id, last_offset = n.last_offset, updated_at = @now
    FROM dbo.flow_progress AS p
    INNER JOIN @rows AS n ON n.topic = p.topic AND n.partition_number = p.partition_number;

    INSERT INTO dbo.flow_progress (topic, partition_number, topic_id, last_offset, updated_at)
    SELECT n.topic, n.partition_number, n.topic_id, n.last_offset, @now
    FROM @rows AS n
    WHERE NOT EXISTS (
        SELECT 1 FROM dbo.flow_progress AS p
        WHERE p.topic = n.topic AND p.partition_number = n.partition_number
    )
    ORDER BY n.topic, n.partition_number;
    COMMIT TRANSACTION;
END;
GO
