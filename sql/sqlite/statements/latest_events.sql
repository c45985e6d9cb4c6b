SELECT created_at, event_type, message FROM ml_events ORDER BY created_at DESC, id DESC LIMIT 5;
