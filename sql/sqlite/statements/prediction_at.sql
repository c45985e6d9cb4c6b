-- ?1 sensor_id, ?2 model_id, ?3 event time as text. The prediction that was made at it.
SELECT p.id
FROM predictions AS p
WHERE p.model_id = ?2 AND p.sensor_id = ?1 AND p.event_predicted_at = ?3;
