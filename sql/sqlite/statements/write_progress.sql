-- Rows of `ProgressRow` in sinks/progress.py. Each replaces the previous one.
INSERT INTO flow_progress (topic, partition_number, topic_id, last_offset, updated_at)
SELECT
    json_extract(r.value, '$[0]'),
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[3]'),
    strftime('%Y-%m-%d %H:%M:%f', 'now')
FROM json_each(?1) AS r
WHERE true
ON CONFLICT (topic, partition_number) DO UPDATE SET
    topic_id = excluded.topic_id,
    last_offset = excluded.last_offset,
    updated_at = excluded.updated_at;
