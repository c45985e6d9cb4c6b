SELECT d.id AS device_id, s.id AS sensor_id
FROM devices AS d
LEFT JOIN sensors AS s ON s.device_id = d.id
WHERE
    (?1 IS NULL OR d.name = ?1)
    AND (?2 IS NULL OR s.name = ?2 OR s.id = ?3)
ORDER BY d.id, s.id;
