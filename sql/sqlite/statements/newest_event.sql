SELECT coalesce(max(id), 0) FROM ml_events;
