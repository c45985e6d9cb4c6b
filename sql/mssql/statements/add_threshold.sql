DECLARE
    @sensor uniqueidentifier = ?,
    @name varchar(255) = ?,
    @severity varchar(50) = ?,
    @min decimal(15, 5) = ?,
    @max decimal(15, 5) = ?;
INSERT INTO dbo.alert_thresholds (
    sensor_id, name, condition_type, threshold_value_min, threshold_value_max, severity
)
SELECT s.id, @name, 'out_of_range', @min, @max, @severity
FROM dbo.sensors AS s
WHERE
    s.sensor_uuid = @sensor
    AND NOT EXISTS (
        SELECT 1 FROM dbo.alert_thresholds AS t
        WHERE t.sensor_id = s.id AND t.name = @name
    );
