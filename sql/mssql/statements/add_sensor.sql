DECLARE
    @device uniqueidentifier = ?,
    @uuid uniqueidentifier = ?,
    @type varchar(100) = ?,
    @name varchar(255) = ?,
    @unit varchar(50) = ?;
INSERT INTO dbo.sensors (device_id, sensor_uuid, sensor_type, name, unit)
SELECT d.id, @uuid, @type, @name, @unit
FROM dbo.devices AS d
WHERE
    d.device_uuid = @device
    AND NOT EXISTS (SELECT 1 FROM dbo.sensors AS s WHERE s.sensor_uuid = @uuid);
