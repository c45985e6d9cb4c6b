-- Keys of single devices: the SHA-256 of each, in hexadecimal digits, never the key itself.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF OBJECT_ID(N'dbo.device_api_keys', N'U') IS NULL
CREATE TABLE dbo.device_api_keys (
    id bigint IDENTITY (1, 1) NOT NULL PRIMARY KEY,
    device_id bigint NOT NULL REFERENCES dbo.devices (id) ON DELETE CASCADE,
    api_key_hash varchar(64) NOT NULL,
    key_name varchar(100) NULL,
    created_at datetime2(6) NOT NULL DEFAULT SYSUTCDATETIME(),
    last_used_at datetime2(6) NULL,
    expires_at datetime2(6) NULL,
    revoked_at datetime2(6) NULL,
    is_active bit NOT NULL DEFAULT 1,
    metadata nvarchar(max) NULL
);
GO
