SELECT COALESCE(MAX(id), 0) FROM dbo.ml_events;
