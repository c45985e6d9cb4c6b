SELECT p.partition_number, p.topic_id, p.last_offset
FROM dbo.flow_progress AS p
WHERE p.topic = ?
ORDER BY p.partition_number;
