SELECT e.id
FROM ml_events AS e
WHERE e.incident_key = ?1
ORDER BY e.created_at DESC, e.id DESC
LIMIT ?2;
