DECLARE @ids nvarchar(max) = ?;
SELECT s.id AS sensor_id, d.device_uuid
FROM OPENJSON (@ids) WITH (id bigint '$') AS r
INNER JOIN dbo.sensors AS s ON s.id = r.id
INNER JOIN dbo.devices AS d ON d.id = s.device_id
WHERE s.is_active = 1 AND d.status NOT IN ('deleted', 'revoked', 'suspended');
