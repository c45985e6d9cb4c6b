SELECT coalesce(max(id), 0) AS id FROM ml_events;
