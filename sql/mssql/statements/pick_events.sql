DECLARE
    @devices nvarchar(max) = ?,
    @sensors nvarchar(max) = ?,
    @begin datetime2(3) = ?,
    @end datetime2(3) = ?,
    @statuses nvarchar(max) = ?,
    @types nvarchar(max) = ?,
    @code varchar(100) = ?,
    @most int = ?;
SELECT TOP (@most) e.id
FROM dbo.ml_events AS e
WHERE
    (@devices IS NULL OR e.device_id IN (
        SELECT r.id FROM OPENJSON (@devices) WITH (id bigint '$') AS r
    ))
    AND (@sensors IS NULL OR e.sensor_id IN (
        SELECT r.id FROM OPENJSON (@sensors) WITH (id bigint '$') AS r
    ))
    AND e.created_at >= @begin
    AND e.created_at < @end
    AND e.status IN (SELECT r.name FROM OPENJSON (@statuses) WITH (name varchar(50) '$') AS r)
    AND (@types IS NULL OR e.event_type IN (
        SELECT r.name FROM OPENJSON (@types) WITH (name varchar(50) '$') AS r
    ))
    AND (@code IS NULL OR e.event_code = @code)
ORDER BY e.created_at DESC, e.id DESC;
