SELECT TOP (5) created_at, event_type, message FROM dbo.ml_events ORDER BY created_at DESC, id DESC;
