-- Columns that an older installation has narrower than we need.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF EXISTS (
    SELECT 1 FROM sys.columns
    WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name = N'status' AND max_length < 25
)
BEGIN
    ALTER TABLE dbo.sensors ALTER COLUMN status varchar(25);
    -- where that has let it be NULL
    IF EXISTS (
        SELECT 1 FROM sys.columns
        WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name = N'status' AND is_nullable = 1
    )
    EXEC sp_executesql N'ALTER TABLE dbo.sensors ALTER COLUMN status varchar(25) NOT NULL';
END;
GO
