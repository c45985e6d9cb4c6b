-- Values from the minimum to the maximum are normal.
INSERT INTO alert_thresholds (
    sensor_id, name, condition_type, threshold_value_min, threshold_value_max, severity
)
SELECT s.id, ?2, 'out_of_range', ?4, ?5, ?3
FROM sensors AS s
WHERE
    s.sensor_uuid = ?1
    AND NOT EXISTS (
        SELECT 1 FROM alert_thresholds AS t
        WHERE t.sensor_id = s.id AND t.name = ?2
    );
