-- The active threshold rules and what a text needs to know of their sensors.
SELECT
    t.id,
    t.sensor_id,
    t.name,
    t.condition_type,
    t.threshold_value_min,
    t.threshold_value_max,
    t.severity,
    s.name,
    s.sensor_type,
    s.unit,
    d.name
FROM alert_thresholds AS t
INNER JOIN sensors AS s ON s.id = t.sensor_id
INNER JOIN devices AS d ON d.id = s.device_id
WHERE t.is_active = 1
ORDER BY t.id;
