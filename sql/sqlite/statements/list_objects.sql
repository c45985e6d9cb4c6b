SELECT type AS object_type, name AS object_name, sql AS definition
FROM sqlite_master
WHERE type IN ('index', 'view', 'trigger');
