DECLARE @name varchar(200) = ?, @checksum varchar(64) = ?;
UPDATE dbo.schema_migrations
SET checksum = @checksum, applied_at = SYSUTCDATETIME()
WHERE name = @name;
IF @@ROWCOUNT = 0
INSERT INTO dbo.schema_migrations (name, checksum) VALUES (@name, @checksum);
