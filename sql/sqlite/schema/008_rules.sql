-- How fast a sensor's mean may rise and fall, per minute, taken over `span_seconds`.
CREATE TABLE rate_thresholds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sensor_id INTEGER NOT NULL REFERENCES sensors (id),
    name TEXT,
    span_seconds INTEGER NOT NULL DEFAULT 60,
    rise_per_minute REAL,
    fall_per_minute REAL,
    severity TEXT NOT NULL DEFAULT 'warning',
    is_active INTEGER NOT NULL DEFAULT 1,
    raise_after INTEGER,
    clear_after INTEGER
);

CREATE INDEX ix_rate_thresholds_sensor ON rate_thresholds (sensor_id);

-- What a reading must not be: below `low`, above `high`, or `equal_to`; level 2 is critical, 1 a
-- warning. Rows that make no sense bound nothing.
DROP VIEW v_threshold_bounds;
CREATE VIEW v_threshold_bounds AS
SELECT
    t.sensor_id,
    t.id AS threshold_id,
    t.name,
    CASE t.severity WHEN 'critical' THEN 2 ELSE 1 END AS level,
    CASE
        WHEN t.condition_type IN ('less_than', 'out_of_range') THEN t.threshold_value_min
    END AS low,
    CASE t.condition_type
        WHEN 'greater_than' THEN t.threshold_value_min
        WHEN 'out_of_range' THEN t.threshold_value_max
    END AS high,
    CASE t.condition_type WHEN 'equal_to' THEN t.threshold_value_min END AS equal_to
FROM alert_thresholds AS t
WHERE
    t.is_active = 1
    AND t.severity IN ('warning', 'critical')
    AND (
        t.condition_type <> 'out_of_range'
        OR t.threshold_value_min IS NULL
        OR t.threshold_value_max IS NULL
        OR t.threshold_value_min <= t.threshold_value_max
    )
UNION ALL
SELECT p.sensor_id, NULL, 'profile ' || p.id, 1, p.warning_min, p.warning_max, NULL
FROM sensor_threshold_profiles AS p
UNION ALL
SELECT p.sensor_id, NULL, 'profile ' || p.id, 2, p.alert_min, p.alert_max, NULL
FROM sensor_threshold_profiles AS p;
