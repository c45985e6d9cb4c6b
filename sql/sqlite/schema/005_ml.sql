-- What batch forecasts are kept by, and found by.

-- The newest reading that a sensor's last forecast has seen.
CREATE TABLE ml_watermarks (
    sensor_id INTEGER NOT NULL PRIMARY KEY REFERENCES sensors (id),
    last_reading_id INTEGER,
    last_processed_at TEXT
);

CREATE INDEX ix_ml_events_sensor ON ml_events (sensor_id, event_code, status);

-- readings that other programs have inserted have no event time
CREATE INDEX ix_sensor_readings_undated
ON sensor_readings (sensor_id, timestamp)
WHERE event_timestamp IS NULL;
