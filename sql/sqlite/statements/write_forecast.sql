-- One `ForecastRow` of ml/predict/forecast_rows.py, as an object of its fields. Writes the model,
-- the prediction, the events with their notifications, and the watermark, all or nothing. A model
-- without an id is identified by its name. `refresh` replaces it, but only once a day if neither
-- the old nor the new line leads anywhere, because the flow keeps every set of models that it has
-- used.
-- null: is_anomaly, its score and the watermark are not changed. Without a target there is no
-- prediction, and the events have none.
DROP INDEX IF EXISTS ux_predictions_event;

INSERT INTO ml_watermarks (sensor_id, last_reading_id, last_processed_at)
SELECT
    json_extract(?1, '$.sensor_id'),
    json_extract(?1, '$.last_reading_id'),
    strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE json_extract(?1, '$.last_reading_id') IS NOT NULL
ON CONFLICT (sensor_id) DO UPDATE SET
    last_reading_id = excluded.last_reading_id,
    last_processed_at = excluded.last_processed_at;

INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)
SELECT
    json_extract(?1, '$.sensor_id'),
    json_extract(?1, '$.model.name'),
    json_extract(?1, '$.model.type'),
    json_extract(?1, '$.model.version'),
    1,
    json_extract(?1, '$.model.trained_at')
WHERE
    json_extract(?1, '$.model.id') IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM ml_models AS m
        WHERE
            m.sensor_id = json_extract(?1, '$.sensor_id')
            AND m.model_name = json_extract(?1, '$.model.name')
            AND (m.is_active = 1 OR json_extract(?1, '$.model.refresh'))
    );

UPDATE ml_models
SET
    version = json_extract(?1, '$.model.version'),
    trained_at = json_extract(?1, '$.model.trained_at'),
    accuracy = json_extract(?1, '$.model.accuracy'),
    metadata = json_extract(?1, '$.model.metadata')
WHERE
    json_extract(?1, '$.model.refresh')
    AND id = (
        SELECT min(m.id) FROM ml_models AS m
        WHERE
            m.sensor_id = json_extract(?1, '$.sensor_id')
            AND m.model_name = json_extract(?1, '$.model.name')
    )
    AND (
        version <> json_extract(?1, '$.model.version')
        OR trained_at <= strftime(
            '%Y-%m-%d %H:%M:%f', json_extract(?1, '$.model.trained_at'), '-1 day'
        )
        OR json_extract(?1, '$.model.metadata.slope_per_minute') <> 0
        OR coalesce(
            CASE WHEN json_valid(metadata) THEN json_extract(metadata, '$.slope_per_minute') END, 1
        ) <> 0
    );

INSERT INTO predictions (
    model_id, sensor_id, device_id, predicted_value, confidence, predicted_at, target_timestamp,
    horizon_minutes, window_points, trend, is_anomaly, anomaly_score, risk_level, severity, status,
    explanation, engine_name, event_predicted_at
)
SELECT
    coalesce(
        json_extract(?1, '$.model.id'),
        (
            SELECT min(m.id) FROM ml_models AS m
            WHERE
                m.sensor_id = json_extract(?1, '$.sensor_id')
                AND m.model_name = json_extract(?1, '$.model.name')
                AND (m.is_active = 1 OR json_extract(?1, '$.model.refresh'))
        )
    ),
    json_extract(?1, '$.sensor_id'),
    json_extract(?1, '$.device_id'),
    json_extract(?1, '$.value'),
    json_extract(?1, '$.confidence'),
    json_extract(?1, '$.predicted_at'),
    json_extract(?1, '$.target'),
    json_extract(?1, '$.horizon_minutes'),
    json_extract(?1, '$.window_points'),
    json_extract(?1, '$.trend'),
    coalesce(json_extract(?1, '$.is_anomaly'), 0),
    coalesce(json_extract(?1, '$.anomaly_score'), 0),
    json_extract(?1, '$.risk_level'),
    json_extract(?1, '$.severity'),
    'active',
    json_extract(?1, '$.explanation'),
    json_extract(?1, '$.engine_name'),
    json_extract(?1, '$.predicted_at')
WHERE json_extract(?1, '$.target') IS NOT NULL
ON CONFLICT (model_id, sensor_id, event_predicted_at, horizon_minutes, window_points)
WHERE event_predicted_at IS NOT NULL
DO UPDATE SET
    device_id = excluded.device_id,
    predicted_value = excluded.predicted_value,
    confidence = excluded.confidence,
    target_timestamp = excluded.target_timestamp,
    trend = excluded.trend,
    is_anomaly = coalesce(json_extract(?1, '$.is_anomaly'), is_anomaly, 0),
    anomaly_score = coalesce(json_extract(?1, '$.anomaly_score'), anomaly_score, 0),
    risk_level = excluded.risk_level,
    severity = excluded.severity,
    explanation = excluded.explanation,
    engine_name = excluded.engine_name;

INSERT INTO ml_events (
    event_key, device_id, sensor_id, prediction_id, created_at, event_type, event_code, title,
    message, payload, status
)
SELECT
    json_extract(r.value, '$.event_key'),
    json_extract(?1, '$.device_id'),
    json_extract(?1, '$.sensor_id'),
    (
        SELECT p.id FROM predictions AS p
        WHERE
            p.model_id = coalesce(
                json_extract(?1, '$.model.id'),
                (
                    SELECT min(m.id) FROM ml_models AS m
                    WHERE
                        m.sensor_id = json_extract(?1, '$.sensor_id')
                        AND m.model_name = json_extract(?1, '$.model.name')
                        AND (m.is_active = 1 OR json_extract(?1, '$.model.refresh'))
                )
            )
            AND p.sensor_id = json_extract(?1, '$.sensor_id')
            AND p.event_predicted_at = json_extract(?1, '$.predicted_at')
            AND p.horizon_minutes = json_extract(?1, '$.horizon_minutes')
            AND p.window_points = json_extract(?1, '$.window_points')
    ),
    json_extract(r.value, '$.at'),
    json_extract(r.value, '$.event_type'),
    json_extract(r.value, '$.event_code'),
    json_extract(r.value, '$.title'),
    json_extract(r.value, '$.message'),
    json_extract(r.value, '$.payload'),
    'active'
FROM json_each(?1, '$.events') AS r
WHERE
    NOT EXISTS (
        SELECT 1 FROM ml_events AS e
        WHERE
            e.sensor_id = json_extract(?1, '$.sensor_id')
            AND e.event_code = json_extract(r.value, '$.event_code')
            AND e.status IN ('active', 'acknowledged')
            AND e.created_at > json_extract(r.value, '$.dedupe_from')
    )
ON CONFLICT (event_key) WHERE event_key IS NOT NULL DO NOTHING;

INSERT INTO alert_notifications (
    event_key, source, source_event_id, severity, title, message, is_read, created_at, sensor_id,
    device_id, triggered_value, event_type
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
    json_extract(r.value, '$.value'),
    e.event_type
FROM json_each(?1, '$.events') AS r
INNER JOIN ml_events AS e ON e.event_key = json_extract(r.value, '$.event_key')
WHERE true
ON CONFLICT (event_key) WHERE event_key IS NOT NULL DO NOTHING;
