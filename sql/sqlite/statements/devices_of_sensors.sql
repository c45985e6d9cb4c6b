SELECT s.id AS sensor_id, d.device_uuid
FROM json_each(?1) AS r
INNER JOIN sensors AS s ON s.id = r.value
INNER JOIN devices AS d ON d.id = s.device_id
WHERE s.is_active = 1 AND d.status NOT IN ('deleted', 'revoked', 'suspended');
