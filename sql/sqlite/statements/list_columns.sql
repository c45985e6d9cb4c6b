SELECT m.name, c.name, c.type
FROM sqlite_master AS m
CROSS JOIN pragma_table_info(m.name) AS c
WHERE m.type = 'table';
