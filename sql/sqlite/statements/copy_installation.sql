-- ?1 is an object with a list of rows for each table; each row is an object of its columns.
INSERT INTO devices (
    id, device_uuid, name, device_type, status, no_data_after_seconds
)
SELECT
    json_extract(r.value, '$.id'),
    json_extract(r.value, '$.device_uuid'),
    json_extract(r.value, '$.name'),
    json_extract(r.value, '$.device_type'),
    json_extract(r.value, '$.status'),
    json_extract(r.value, '$.no_data_after_seconds')
FROM json_each(?1, '$.devices') AS r;

INSERT INTO sensors (
    id, device_id, sensor_uuid, sensor_type, name, unit, is_active, no_data_after_seconds
)
SELECT
    json_extract(r.value, '$.id'),
    json_extract(r.value, '$.device_id'),
    json_extract(r.value, '$.sensor_uuid'),
    json_extract(r.value, '$.sensor_type'),
    json_extract(r.value, '$.name'),
    json_extract(r.value, '$.unit'),
    json_extract(r.value, '$.is_active'),
    json_extract(r.value, '$.no_data_after_seconds')
FROM json_each(?1, '$.sensors') AS r;

INSERT INTO alert_thresholds (
    id, sensor_id, name, condition_type, threshold_value_min, threshold_value_max, severity,
    is_active, consecutive_readings, clear_after, reset_value_min, reset_value_max, forecast_after
)
SELECT
    json_extract(r.value, '$.id'),
    json_extract(r.value, '$.sensor_id'),
    coalesce(json_extract(r.value, '$.name'), ''),
    json_extract(r.value, '$.condition_type'),
    json_extract(r.value, '$.threshold_value_min'),
    json_extract(r.value, '$.threshold_value_max'),
    coalesce(json_extract(r.value, '$.severity'), 'warning'),
    coalesce(json_extract(r.value, '$.is_active'), 1),
    json_extract(r.value, '$.consecutive_readings'),
    json_extract(r.value, '$.clear_after'),
    json_extract(r.value, '$.reset_value_min'),
    json_extract(r.value, '$.reset_value_max'),
    json_extract(r.value, '$.forecast_after')
FROM json_each(?1, '$.alert_thresholds') AS r;

INSERT INTO sensor_threshold_profiles (
    id, sensor_id, warning_min, warning_max, alert_min, alert_max
)
SELECT
    json_extract(r.value, '$.id'),
    json_extract(r.value, '$.sensor_id'),
    json_extract(r.value, '$.warning_min'),
    json_extract(r.value, '$.warning_max'),
    json_extract(r.value, '$.alert_min'),
    json_extract(r.value, '$.alert_max')
FROM json_each(?1, '$.sensor_threshold_profiles') AS r;

INSERT INTO delta_thresholds (
    id, sensor_id, abs_delta, rel_delta, abs_slope, rel_slope, severity, is_active, min_readings,
    raise_after, clear_after
)
SELECT
    json_extract(r.value, '$.id'),
    json_extract(r.value, '$.sensor_id'),
    json_extract(r.value, '$.abs_delta'),
    json_extract(r.value, '$.rel_delta'),
    json_extract(r.value, '$.abs_slope'),
    json_extract(r.value, '$.rel_slope'),
    json_extract(r.value, '$.severity'),
    coalesce(json_extract(r.value, '$.is_active'), 1),
    coalesce(json_extract(r.value, '$.min_readings'), 5),
    json_extract(r.value, '$.raise_after'),
    json_extract(r.value, '$.clear_after')
FROM json_each(?1, '$.delta_thresholds') AS r;

INSERT INTO ml_models (
    id, sensor_id, model_name, model_type, version, is_active, trained_at, metadata
)
SELECT
    json_extract(r.value, '$.id'),
    json_extract(r.value, '$.sensor_id'),
    json_extract(r.value, '$.model_name'),
    json_extract(r.value, '$.model_type'),
    json_extract(r.value, '$.version'),
    json_extract(r.value, '$.is_active'),
    json_extract(r.value, '$.trained_at'),
    json_extract(r.value, '$.metadata')
FROM json_each(?1, '$.ml_models') AS r;

INSERT INTO rate_thresholds (
    id, sensor_id, name, span_seconds, rise_per_minute, fall_per_minute, severity, is_active,
    raise_after, clear_after
)
SELECT
    json_extract(r.value, '$.id'),
    json_extract(r.value, '$.sensor_id'),
    coalesce(json_extract(r.value, '$.name'), ''),
    coalesce(json_extract(r.value, '$.span_seconds'), 60),
    json_extract(r.value, '$.rise_per_minute'),
    json_extract(r.value, '$.fall_per_minute'),
    coalesce(json_extract(r.value, '$.severity'), 'warning'),
    coalesce(json_extract(r.value, '$.is_active'), 1),
    json_extract(r.value, '$.raise_after'),
    json_extract(r.value, '$.clear_after')
FROM json_each(?1, '$.rate_thresholds') AS r;
