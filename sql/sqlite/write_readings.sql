-- ?1: JSON, rows [sensor_id, value, received_at, device_ts or null, event_ts, seq],
-- times in epoch milliseconds. Rows that are there already stay as they are.
INSERT INTO sensor_readings (sensor_id, value, timestamp, device_timestamp, event_timestamp, seq)
SELECT
    json_extract(r.value, '$[0]'),
    json_extract(r.value, '$[1]'),
    strftime('%Y-%m-%d %H:%M:%f', json_extract(r.value, '$[2]') / 1000.0, 'unixepoch'),
    strftime('%Y-%m-%d %H:%M:%f', json_extract(r.value, '$[3]') / 1000.0, 'unixepoch'),
    strftime('%Y-%m-%d %H:%M:%f', json_extract(r.value, '$[4]') / 1000.0, 'unixepoch'),
    json_extract(r.value, '$[5]')
FROM json_each(?1) AS r
WHERE true
ON CONFLICT (sensor_id, event_timestamp, seq) WHERE event_timestamp IS NOT NULL DO NOTHING;
