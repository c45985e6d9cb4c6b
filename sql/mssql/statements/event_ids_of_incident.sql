DECLARE @incident varchar(64) = ?, @most int = ?;
SELECT TOP (@most) e.id
FROM dbo.ml_events AS e
WHERE e.incident_key = @incident AND e.incident_key IS NOT NULL
ORDER BY e.created_at DESC, e.id DESC;
