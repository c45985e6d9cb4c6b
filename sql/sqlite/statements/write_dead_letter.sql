INSERT INTO sink_dead_letters (sink, row_key, error, row_json) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (row_key) DO NOTHING;
