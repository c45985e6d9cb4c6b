-- Rows of `RollupRow` in sinks/rollups.py. A stored rollup is replaced by one with at least as many
-- readings.
INSERT INTO sensor_readings_1m (
    sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
)
SELECT
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[3]'),
    json_extract(r.value, '$[4]'),
    json_extract(r.value, '$[5]'),
    json_extract(r.value, '$[6]'),
    json_extract(r.value, '$[7]')
FROM json_each(?1) AS r
WHERE json_extract(r.value, '$[0]') = 60000
ON CONFLICT (sensor_id, bucket_ts) DO UPDATE SET
    avg_value = excluded.avg_value,
    min_value = excluded.min_value,
    max_value = excluded.max_value,
    last_value = excluded.last_value,
    samples = excluded.samples
WHERE excluded.samples >= sensor_readings_1m.samples;

INSERT INTO sensor_readings_5m (
    sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
)
SELECT
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[3]'),
    json_extract(r.value, '$[4]'),
    json_extract(r.value, '$[5]'),
    json_extract(r.value, '$[6]'),
    json_extract(r.value, '$[7]')
FROM json_each(?1) AS r
WHERE json_extract(r.value, '$[0]') = 300000
ON CONFLICT (sensor_id, bucket_ts) DO UPDATE SET
    avg_value = excluded.avg_value,
    min_value = excluded.min_value,
    max_value = excluded.max_value,
    last_value = excluded.last_value,
    samples = excluded.samples
WHERE excluded.samples >= sensor_readings_5m.samples;

INSERT INTO sensor_readings_1h (
    sensor_id, bucket_ts, avg_value, min_value, max_value, last_value, samples
)
SELECT
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[3]'),
    json_extract(r.value, '$[4]'),
    json_extract(r.value, '$[5]'),
    json_extract(r.value, '$[6]'),
    json_extract(r.value, '$[7]')
FROM json_each(?1) AS r
WHERE json_extract(r.value, '$[0]') = 3600000
ON CONFLICT (sensor_id, bucket_ts) DO UPDATE SET
    avg_value = excluded.avg_value,
    min_value = excluded.min_value,
    max_value = excluded.max_value,
    last_value = excluded.last_value,
    samples = excluded.samples
WHERE excluded.samples >= sensor_readings_1h.samples;
