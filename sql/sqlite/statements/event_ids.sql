SELECT e.id
FROM ml_events AS e
WHERE e.id = ?1
UNION
SELECT e.id
FROM ml_events AS e
WHERE e.event_key >= ?2 AND e.event_key < ?3
LIMIT 5;
