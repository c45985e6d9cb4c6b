-- The previous version is kept under a name with part of its checksum.
INSERT INTO schema_migrations (name, checksum, applied_at)
SELECT m.name || ' ' || substr(m.checksum, 1, 12), m.checksum, m.applied_at
FROM schema_migrations AS m
WHERE m.name = ?1 AND m.checksum <> ?2
ON CONFLICT (name) DO NOTHING;

INSERT INTO schema_migrations (name, checksum) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET
    checksum = excluded.checksum,
    applied_at = strftime('%Y-%m-%d %H:%M:%f', 'now');
