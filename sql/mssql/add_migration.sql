INSERT INTO dbo.schema_migrations (name, checksum) VALUES (?, ?);
