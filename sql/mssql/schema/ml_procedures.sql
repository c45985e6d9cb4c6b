-- What the prediction service and the batch runner call: one JSON parameter a sensor.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF NOT EXISTS (
    SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbo.ml_models') AND name LIKE N'ix[_]ml[_]models[_]sensor%'
)
CREATE INDEX ix_ml_models_sensor ON dbo.ml_models (sensor_id);
GO
-- The model, the prediction, the events with their notifications and the watermark of one sensor:
-- all or nothing. Without a target there is no prediction, and the events have none. Who writes for
-- a sensor holds its watermark, so writers take turns, and nobody adds an event between the look
-- for one and the insert.
IF OBJECT_ID(N'dbo.sp_ml_forecast', N'P') IS NOT NULL DROP PROCEDURE dbo.sp_ml_forecast;
GO
CREATE PROCEDURE dbo.sp_ml_forecast
    @p_row nvarchar(max)
AS
BEGIN
    SET NOCOUNT ON;
    SET XACT_ABORT ON;
    DECLARE @row TABLE (
        sensor_id bigint NOT NULL,
        device_id bigint NOT NULL,
        model_id bigint NULL,
        model_name varchar(255) NULL,
        model_type varchar(100) NULL,
        model_version varchar(50) NULL,
        model_refresh bit NULL,
        trained_at datetime2(3) NULL,
        accuracy decimal(5, 4) NULL,
        metadata nvarchar(max) NULL,
        predicted_at datetime2(3) NOT NULL,
        target datetime2(3) NULL,
        value decimal(15, 5) NULL,
        confidence decimal(5, 4) NULL,
        horizon_minutes int NOT NULL,
        window_points int NOT NULL,
        trend varchar(10) NOT NULL,
        is_anomaly int NULL,
        anomaly_score float NULL,
        risk_level varchar(20) NOT NULL,
        severity varchar(50) NOT NULL,
        explanation nvarchar(max) NOT NULL,
        engine_name varchar(50) NOT NULL,
        last_reading_id bigint NULL,
        events nvarchar(max) NULL
    );
    INSERT INTO @row (
        sensor_id, device_id, model_id, model_name, model_type, model_version, model_refresh,
        trained_at, accuracy, metadata, predicted_at, target, value, confidence, horizon_minutes,
        window_points, trend, is_anomaly, anomaly_score, risk_level, severity, explanation,
        engine_name, last_reading_id, events
    )
    SELECT
        r.sensor_id,
        r.device_id,
        r.model_id,
        r.model_name,
        r.model_type,
        r.model_version,
        r.model_refresh,
        r.trained_at,
        TRY_CAST(r.accuracy AS decimal(5, 4)),
        r.metadata,
        r.predicted_at,
        r.target,
        TRY_CAST(r.value AS decimal(15, 5)),
        TRY_CAST(r.confidence AS decimal(5, 4)),
        r.horizon_minutes,
        r.window_points,
        r.trend,
        r.is_anomaly,
        r.anomaly_score,
        r.risk_level,
        r.severity,
        r.explanation,
        r.engine_name,
        r.last_reading_id,
        r.events
    FROM OPENJSON (@p_row) WITH (
        sensor_id bigint '$.sensor_id',
        device_id bigint '$.device_id',
        model_id bigint '$.model.id',
        model_name varchar(255) '$.model.name',
        model_type varchar(100) '$.model.type',
        model_version varchar(50) '$.model.version',
        model_refresh bit '$.model.refresh',
        trained_at datetime2(3) '$.model.trained_at',
        accuracy float '$.model.accuracy',
        metadata nvarchar(max) '$.model.metadata' AS JSON,
        predicted_at datetime2(3) '$.predicted_at',
        target datetime2(3) '$.target',
        value float '$.value',
        confidence float '$.confidence',
        horizon_minutes int '$.horizon_minutes',
        window_points int '$.window_points',
        trend varchar(10) '$.trend',
        is_anomaly int '$.is_anomaly',
        anomaly_score float '$.anomaly_score',
        risk_level varchar(20) '$.risk_level',
        severity varchar(50) '$.severity',
        explanation nvarchar(max) '$.explanation' AS JSON,
        engine_name varchar(50) '$.engine_name',
        last_reading_id bigint '$.last_reading_id',
        events nvarchar(max) '$.events' AS JSON
    ) AS r;
    DECLARE @p_events nvarchar(max) = (SELECT r.events FROM @row AS r);
    DECLARE @events TABLE (
        event_key varchar(64) NOT NULL PRIMARY KEY,
        at datetime2(3) NOT NULL,
        dedupe_from datetime2(3) NOT NULL,
        event_type varchar(50) NOT NULL,
        event_code varchar(100) NOT NULL,
        title nvarchar(255) NOT NULL,
        message nvarchar(1000) NOT NULL,
        value float NULL,
        payload nvarchar(max) NOT NULL
    );
    INSERT INTO @events (
        event_key, at, dedupe_from, event_type, event_code, title, message, value, payload
    )
    SELECT
        e.event_key,
        e.at,
        e.dedupe_from,
        e.event_type,
        e.event_code,
        e.title,
        e.message,
        e.value,
        e.payload
    FROM OPENJSON (@p_events) WITH (
        event_key varchar(64) '$.event_key',
        at datetime2(3) '$.at',
        dedupe_from datetime2(3) '$.dedupe_from',
        event_type varchar(50) '$.event_type',
        event_code varchar(100) '$.event_code',
        title nvarchar(max) '$.title',
        message nvarchar(max) '$.message',
        value float '$.value',
        payload nvarchar(max) '$.payload' AS JSON
    ) AS e;
    DECLARE @sensor bigint = (SELECT r.sensor_id FROM @row AS r);
    DECLARE @model bigint = (SELECT r.model_id FROM @row AS r);
    DECLARE @at datetime2(3) = (SELECT r.predicted_at FROM @row AS r);
    DECLARE @horizon int = (SELECT r.horizon_minutes FROM @row AS r);
    DECLARE @window int = (SELECT r.window_points FROM @row AS r);

    BEGIN TRANSACTION;
    INSERT INTO dbo.ml_watermarks (sensor_id)
    SELECT r.sensor_id FROM @row AS r
    WHERE NOT EXISTS (SELECT 1 FROM dbo.ml_watermarks AS w WHERE w.sensor_id = r.sensor_id);

    UPDATE w
    SET
        last_reading_id = COALESCE(r.last_reading_id, w.last_reading_id),
        last_processed_at
        = CASE WHEN r.last_reading_id IS NULL THEN w.last_processed_at ELSE SYSUTCDATETIME() END
    FROM dbo.ml_watermarks AS w
    INNER JOIN @row AS r ON r.sensor_id = w.sensor_id;

    IF @model IS NULL
    BEGIN
        INSERT INTO dbo.ml_models (
            sensor_id, model_name, model_type, version, is_active, trained_at
        )
        SELECT r.sensor_id, r.model_name, r.model_type, r.model_version, 1, r.trained_at
        FROM @row AS r
        WHERE NOT EXISTS (
            SELECT 1 FROM dbo.ml_models AS m
            WHERE
                m.sensor_id = r.sensor_id
                AND m.model_name = r.model_name
                AND (m.is_active = 1 OR r.model_refresh = 1)
        );
        SET @model = (
            SELECT MIN(m.id) FROM dbo.ml_models AS m
            INNER JOIN @row AS r ON r.sensor_id = m.sensor_id AND r.model_name = m.model_name
            WHERE m.is_active = 1 OR r.model_refresh = 1
        );
        UPDATE m
        SET
            version = r.model_version,
            trained_at = r.trained_at,
            accuracy = r.accuracy,
            metadata = r.metadata
        FROM dbo.ml_models AS m
        INNER JOIN @row AS r ON r.sensor_id = m.sensor_id
        WHERE
            m.id = @model
            AND r.model_refresh = 1
            -- once a day where neither the old nor the new line leads anywhere: the flow keeps
            -- every set of models that it has used
            AND (
                m.version <> r.model_version
                OR m.trained_at <= DATEADD(day, -1, r.trained_at)
                OR CAST(JSON_VALUE(r.metadata, '$.slope_per_minute') AS float) <> 0
                OR COALESCE(
                    TRY_CAST(
                        CASE
                            WHEN ISJSON(m.metadata) = 1
                                THEN JSON_VALUE(m.metadata, '$.slope_per_minute')
                        END AS float
                    ),
                    1
                ) <> 0
            );
    END;

    UPDATE p
    SET
        device_id = r.device_id,
        predicted_value = r.value,
        confidence = r.confidence,
        target_timestamp = r.target,
        trend = r.trend,
        is_anomaly = COALESCE(r.is_anomaly, p.is_anomaly, 0),
        anomaly_score = COALESCE(r.anomaly_score, p.anomaly_score, 0),
        risk_level = r.risk_level,
        severity = r.severity,
        explanation = r.explanation,
        engine_name = r.engine_name
    FROM dbo.predictions AS p
    INNER JOIN @row AS r ON r.sensor_id = p.sensor_id AND r.predicted_at = p.event_predicted_at
    WHERE
        p.model_id = @model
        AND p.horizon_minutes = @horizon
        AND p.window_points = @window
        AND r.target IS NOT NULL;

    INSERT INTO dbo.predictions (
        model_id, sensor_id, device_id, predicted_value, confidence, predicted_at,
        target_timestamp, horizon_minutes, window_points, trend, is_anomaly, anomaly_score,
        risk_level, severity, status, explanation, engine_name, event_predicted_at
    )
    SELECT
        @model,
        r.sensor_id,
        r.device_id,
        r.value,
        r.confidence,
        r.predicted_at,
        r.target,
        r.horizon_minutes,
        r.window_points,
        r.trend,
        COALESCE(r.is_anomaly, 0),
        COALESCE(r.anomaly_score, 0),
        r.risk_level,
        r.severity,
        'active',
        r.explanation,
        r.engine_name,
        r.predicted_at
    FROM @row AS r
    WHERE
        r.target IS NOT NULL
        AND NOT EXISTS (
            SELECT 1 FROM dbo.predictions AS p
            WHERE
                p.model_id = @model
                AND p.sensor_id = r.sensor_id
                AND p.event_predicted_at = r.predicted_at
                AND p.horizon_minutes = @horizon
                AND p.window_points = @window
        );

    INSERT INTO dbo.ml_events (
        event_key, device_id, sensor_id, prediction_id, created_at, event_type, event_code, title,
        message, payload, status
    )
    SELECT
        n.event_key,
        r.device_id,
        r.sensor_id,
        p.id,
        n.at,
        n.event_type,
        n.event_code,
        n.title,
        n.message,
        n.payload,
        'active'
    FROM @events AS n
    CROSS JOIN @row AS r
    LEFT JOIN dbo.predictions AS p
        ON
            p.model_id = @model
            AND p.sensor_id = @sensor
            AND p.event_predicted_at = @at
            AND p.horizon_minutes = @horizon
            AND p.window_points = @window
    WHERE
        NOT EXISTS (SELECT 1 FROM dbo.ml_events AS e WHERE e.event_key = n.event_key)
        AND NOT EXISTS (
            SELECT 1 FROM dbo.ml_events AS e
            WHERE
                e.sensor_id = @sensor
                AND e.event_code = n.event_code
                AND e.status IN ('active', 'acknowledged')
                AND e.created_at > n.dedupe_from
        )
    ORDER BY n.at, n.event_key;

    INSERT INTO dbo.alert_notifications (
        event_key, source, source_event_id, severity, title, message, is_read, created_at,
        sensor_id, device_id, triggered_value, event_type
    )
    SELECT
        e.event_key,
        'ml_event',
        e.id,
        e.event_type,
        e.title,
        e.message,
        0,
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
    COMMIT TRANSACTION;
END;
GO
