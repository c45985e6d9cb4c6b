SELECT e.id
FROM ml_events AS e
WHERE
    (?1 IS NULL OR e.device_id IN (SELECT r.value FROM json_each(?1) AS r))
    AND (?2 IS NULL OR e.sensor_id IN (SELECT r.value FROM json_each(?2) AS r))
    AND e.created_at >= ?3
    AND e.created_at < ?4
    AND e.status IN (SELECT r.value FROM json_each(?5) AS r)
    AND (?6 IS NULL OR e.event_type IN (SELECT r.value FROM json_each(?6) AS r))
    AND (?7 IS NULL OR e.event_code = ?7)
ORDER BY e.created_at DESC, e.id DESC
LIMIT ?8;
