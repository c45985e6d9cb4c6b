-- Rows of `PredictionRow` in sinks/predictions.py. Model 0 is the sensor's baseline, which is
-- created if the sensor has none. Rows that are already stored are not changed.
DROP INDEX IF EXISTS ux_predictions_event;

INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)
SELECT
    json_extract(r.value, '$[1]'),
    'baseline_moving_average',
    'baseline',
    '1.0.0',
    1,
    min(json_extract(r.value, '$[3]'))
FROM json_each(?1) AS r
WHERE
    json_extract(r.value, '$[0]') = 0
    AND NOT EXISTS (
        SELECT 1 FROM ml_models AS m
        WHERE
            m.sensor_id = json_extract(r.value, '$[1]')
            AND m.model_name = 'baseline_moving_average'
    )
GROUP BY json_extract(r.value, '$[1]')
ORDER BY json_extract(r.value, '$[1]');

INSERT INTO predictions (
    model_id, sensor_id, device_id, predicted_value, confidence, predicted_at, target_timestamp,
    horizon_minutes, window_points, trend, is_anomaly, anomaly_score, risk_level, severity, status,
    explanation, engine_name, event_predicted_at
)
SELECT
    CASE
        WHEN json_extract(r.value, '$[0]') = 0
            THEN (
                SELECT min(m.id) FROM ml_models AS m
                WHERE
                    m.sensor_id = json_extract(r.value, '$[1]')
                    AND m.model_name = 'baseline_moving_average'
            )
        ELSE json_extract(r.value, '$[0]')
    END,
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[5]'),
    json_extract(r.value, '$[6]'),
    json_extract(r.value, '$[3]'),
    json_extract(r.value, '$[4]'),
    json_extract(r.value, '$[9]'),
    json_extract(r.value, '$[7]'),
    json_extract(r.value, '$[8]'),
    0,
    0,
    json_extract(r.value, '$[10]'),
    json_extract(r.value, '$[11]'),
    'active',
    json_extract(r.value, '$[12]'),
    json_extract(r.value, '$[13]'),
    json_extract(r.value, '$[3]')
FROM json_each(?1) AS r
WHERE true
ON CONFLICT (model_id, sensor_id, event_predicted_at, horizon_minutes, window_points)
WHERE event_predicted_at IS NOT NULL
DO NOTHING;
