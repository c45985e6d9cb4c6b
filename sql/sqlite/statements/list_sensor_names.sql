-- What a text needs to know of the sensors, inactive ones too.
SELECT s.id, s.name, s.sensor_type, s.unit, s.device_id, d.name
FROM sensors AS s
INNER JOIN devices AS d ON d.id = s.device_id
ORDER BY s.id;
