SELECT
    id,
    sensor_id,
    model_name,
    model_type,
    version,
    is_active,
    metadata,
    CONVERT(varchar(23), trained_at, 121) AS trained_at
FROM dbo.ml_models
ORDER BY id;
