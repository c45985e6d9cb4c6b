INSERT INTO schema_migrations (name, checksum) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET
    checksum = excluded.checksum,
    applied_at = strftime('%Y-%m-%d %H:%M:%f', 'now');
