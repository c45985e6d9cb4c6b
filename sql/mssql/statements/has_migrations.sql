SELECT 1 WHERE OBJECT_ID(N'dbo.schema_migrations', N'U') IS NOT NULL;
