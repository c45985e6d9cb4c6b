-- ?1: sensor id
SELECT d.device_uuid
FROM sensors AS s
INNER JOIN devices AS d ON d.id = s.device_id
WHERE s.id = ?1 AND s.is_active = 1;
