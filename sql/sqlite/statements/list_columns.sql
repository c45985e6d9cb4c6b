SELECT m.name AS table_name, c.name AS column_name, c.type AS column_type
FROM sqlite_master AS m
CROSS JOIN pragma_table_info(m.name) AS c
WHERE m.type = 'table';
