DECLARE @name varchar(200) = ?, @checksum varchar(64) = ?;
INSERT INTO dbo.schema_migrations (name, checksum, applied_at)
SELECT m.name + ' ' + LEFT(m.checksum, 12), m.checksum, m.applied_at
FROM dbo.schema_migrations AS m
WHERE
    m.name = @name
    AND m.checksum <> @checksum
    AND NOT EXISTS (
        SELECT 1 FROM dbo.schema_migrations AS o
        WHERE o.name = m.name + ' ' + LEFT(m.checksum, 12)
    );
UPDATE dbo.schema_migrations
SET checksum = @checksum, applied_at = SYSUTCDATETIME()
WHERE name = @name;
IF @@ROWCOUNT = 0
INSERT INTO dbo.schema_migrations (name, checksum) VALUES (@name, @checksum);
