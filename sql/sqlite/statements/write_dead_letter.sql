-- ?1 sink, ?2 key of the row, ?3 error, ?4 the row as JSON
INSERT INTO sink_dead_letters (sink, row_key, error, row_json) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (row_key) DO NOTHING;
