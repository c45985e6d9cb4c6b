DECLARE @sensor bigint = ?, @model bigint = ?, @at datetime2(3) = ?;
SELECT p.id
FROM dbo.predictions AS p
WHERE p.model_id = @model AND p.sensor_id = @sensor AND p.event_predicted_at = @at;
