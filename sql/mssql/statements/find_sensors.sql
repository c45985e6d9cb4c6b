DECLARE @device varchar(255) = ?, @sensor varchar(255) = ?, @id bigint = ?;
SELECT d.id AS device_id, s.id AS sensor_id
FROM dbo.devices AS d
LEFT JOIN dbo.sensors AS s ON s.device_id = d.id
WHERE
    (@device IS NULL OR d.name = @device)
    AND (@sensor IS NULL OR s.name = @sensor OR s.id = @id)
ORDER BY d.id, s.id;
