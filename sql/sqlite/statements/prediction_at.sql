SELECT p.id
FROM predictions AS p
WHERE
    p.model_id = ?2
    AND p.sensor_id = ?1
    AND p.event_predicted_at = ?3
    AND p.horizon_minutes = ?4
    AND p.window_points = ?5;
