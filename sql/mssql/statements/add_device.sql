DECLARE @uuid uniqueidentifier = ?, @name varchar(255) = ?, @type varchar(100) = ?;
INSERT INTO dbo.devices (device_uuid, name, device_type, status)
SELECT @uuid, @name, @type, 'offline'
WHERE NOT EXISTS (SELECT 1 FROM dbo.devices AS d WHERE d.device_uuid = @uuid);
