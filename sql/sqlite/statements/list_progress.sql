SELECT p.partition_number, p.topic_id, p.last_offset
FROM flow_progress AS p
WHERE p.topic = ?1
ORDER BY p.partition_number;
