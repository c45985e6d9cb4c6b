DECLARE @uuid uniqueidentifier = ?, @hash varchar(64) = ?, @name varchar(100) = ?;
INSERT INTO dbo.device_api_keys (device_id, api_key_hash, key_name)
SELECT d.id, @hash, @name FROM dbo.devices AS d WHERE d.device_uuid = @uuid;
