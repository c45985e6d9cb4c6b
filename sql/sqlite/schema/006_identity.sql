-- Two readings are the same one where sensor, event time, seq and value are the same. The key of
-- before is dropped with the first batch that this version writes: an older flow needs it until
-- then.
-- superseded: ux_sensor_readings_event
CREATE UNIQUE INDEX ux_sensor_readings_identity
ON sensor_readings (sensor_id, event_timestamp, seq, value)
WHERE event_timestamp IS NOT NULL;
