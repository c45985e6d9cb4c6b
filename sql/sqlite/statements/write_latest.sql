-- ?1: JSON, rows [sensor_id, value, ts], ts in epoch milliseconds. A value that is there is
-- replaced by one that is not older.
INSERT INTO sensor_readings_latest (sensor_id, latest_value, latest_timestamp)
SELECT
    json_extract(r.value, '$[0]'),
    json_extract(r.value, '$[1]'),
    strftime('%Y-%m-%d %H:%M:%f', json_extract(r.value, '$[2]') / 1000.0, 'unixepoch')
FROM json_each(?1) AS r
WHERE true
ON CONFLICT (sensor_id) DO UPDATE SET
    latest_value = excluded.latest_value,
    latest_timestamp = excluded.latest_timestamp
WHERE excluded.latest_timestamp >= sensor_readings_latest.latest_timestamp;
