SELECT
    CASE o.type WHEN 'V' THEN 'view' WHEN 'TR' THEN 'trigger' ELSE 'procedure' END AS object_type,
    o.name AS object_name,
    m.[definition]
FROM sys.objects AS o
LEFT JOIN sys.sql_modules AS m ON m.object_id = o.object_id
WHERE o.type IN ('V', 'P', 'TR') AND o.schema_id = SCHEMA_ID('dbo')
UNION ALL
SELECT 'index', i.name, NULL
FROM sys.indexes AS i
INNER JOIN sys.objects AS o ON o.object_id = i.object_id
WHERE o.schema_id = SCHEMA_ID('dbo') AND i.name IS NOT NULL;
