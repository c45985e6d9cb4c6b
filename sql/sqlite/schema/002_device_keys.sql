-- Keys of single devices: the SHA-256 of each, in hexadecimal digits, never the key itself.

CREATE TABLE device_api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    api_key_hash TEXT NOT NULL CHECK (length(api_key_hash) = 64),
    key_name TEXT CHECK (length(key_name) <= 100),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    last_used_at TEXT,
    expires_at TEXT,
    revoked_at TEXT,
    is_active INTEGER NOT NULL DEFAULT 1,
    metadata TEXT
);

-- uuids are the same in upper and in lower case
CREATE UNIQUE INDEX ux_devices_uuid_any_case ON devices (lower(device_uuid));
CREATE INDEX ix_device_api_keys_device ON device_api_keys (device_id);
