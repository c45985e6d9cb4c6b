SELECT 1 AS present WHERE OBJECT_ID(N'dbo.schema_migrations', N'U') IS NOT NULL;
