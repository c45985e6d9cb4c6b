DECLARE @sensor bigint = ?, @model bigint = ?, @at datetime2(3) = ?, @horizon int = ?,
    @window int = ?;
SELECT p.id
FROM dbo.predictions AS p
WHERE
    p.model_id = @model
    AND p.sensor_id = @sensor
    AND p.event_predicted_at = @at
    AND p.horizon_minutes = @horizon
    AND p.window_points = @window;
