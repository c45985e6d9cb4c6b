SELECT name, checksum FROM dbo.schema_migrations;
