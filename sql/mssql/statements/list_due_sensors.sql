SELECT s.id, s.device_id, s.name, s.sensor_type AS type, s.unit, d.name AS device
FROM dbo.sensors AS s
INNER JOIN dbo.devices AS d ON d.id = s.device_id
OUTER APPLY (
    SELECT TOP (1) r.id, r.event_timestamp
    FROM dbo.sensor_readings AS r
    WHERE r.sensor_id = s.id AND r.event_timestamp IS NOT NULL
    ORDER BY r.event_timestamp DESC, r.seq DESC
) AS a
OUTER APPLY (
    SELECT TOP (1) r.id, r.[timestamp]
    FROM dbo.sensor_readings AS r
    WHERE r.sensor_id = s.id AND r.event_timestamp IS NULL
    ORDER BY r.[timestamp] DESC, r.id DESC
) AS b
LEFT JOIN dbo.ml_watermarks AS w ON w.sensor_id = s.id
WHERE
    s.is_active = 1
    AND s.is_deleted = 0
    AND d.status NOT IN ('deleted', 'revoked', 'suspended')
    AND COALESCE(a.id, b.id) IS NOT NULL
    AND COALESCE(w.last_reading_id, 0) <> CASE
        WHEN a.id IS NULL OR b.[timestamp] > a.event_timestamp THEN b.id ELSE a.id
    END
ORDER BY s.sensor_type, s.id;
