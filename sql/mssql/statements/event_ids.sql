DECLARE @id bigint = ?, @first varchar(64) = ?, @beyond varchar(64) = ?;
SELECT TOP (5) f.id
FROM (
    SELECT e.id
    FROM dbo.ml_events AS e
    WHERE e.id = @id
    UNION
    SELECT e.id
    FROM dbo.ml_events AS e
    WHERE e.event_key >= @first AND e.event_key < @beyond AND e.event_key IS NOT NULL
) AS f;
