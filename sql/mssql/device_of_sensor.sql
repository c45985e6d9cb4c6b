SELECT d.device_uuid
FROM dbo.sensors AS s
INNER JOIN dbo.devices AS d ON d.id = s.device_id
WHERE s.id = ? AND s.is_active = 1;
