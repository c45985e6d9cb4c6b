SELECT
    t.id,
    t.sensor_id,
    t.name,
    t.condition_type,
    CAST(t.threshold_value_min AS float),
    CAST(t.threshold_value_max AS float),
    t.severity,
    s.name,
    s.sensor_type,
    s.unit,
    d.name
FROM dbo.alert_thresholds AS t
INNER JOIN dbo.sensors AS s ON s.id = t.sensor_id
INNER JOIN dbo.devices AS d ON d.id = s.device_id
WHERE t.is_active = 1
ORDER BY t.id;
