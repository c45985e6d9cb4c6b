-- Readings without an event time count by the time they were stored.
WITH newest AS (
    SELECT
        s.id AS sensor_id,
        (
            SELECT r.id FROM sensor_readings AS r
            WHERE r.sensor_id = s.id AND r.event_timestamp IS NOT NULL
            ORDER BY r.event_timestamp DESC, r.seq DESC
            LIMIT 1
        ) AS dated_id,
        (
            SELECT r.id FROM sensor_readings AS r
            WHERE r.sensor_id = s.id AND r.event_timestamp IS NULL
            ORDER BY r.timestamp DESC, r.id DESC
            LIMIT 1
        ) AS undated_id
    FROM sensors AS s
    WHERE s.is_active = 1
)

SELECT s.id, s.device_id, s.name, s.sensor_type AS type, s.unit, d.name AS device
FROM newest AS n
INNER JOIN sensors AS s ON s.id = n.sensor_id
INNER JOIN devices AS d ON d.id = s.device_id
LEFT JOIN sensor_readings AS a ON a.id = n.dated_id
LEFT JOIN sensor_readings AS b ON b.id = n.undated_id
LEFT JOIN ml_watermarks AS w ON w.sensor_id = s.id
WHERE
    d.status NOT IN ('deleted', 'revoked', 'suspended')
    AND coalesce(a.id, b.id) IS NOT NULL
    AND w.last_reading_id IS NOT CASE
        WHEN a.id IS NULL OR b.timestamp > a.event_timestamp THEN b.id ELSE a.id
    END
ORDER BY s.sensor_type, s.id;
