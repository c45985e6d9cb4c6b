SELECT
    id,
    sensor_id,
    model_name,
    model_type,
    version,
    is_active,
    metadata,
    trained_at
FROM ml_models
ORDER BY id;
