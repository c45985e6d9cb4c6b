DECLARE @name sysname = ?;
DECLARE @statement nvarchar(300) = N'CREATE DATABASE ' + QUOTENAME(@name);
IF DB_ID(@name) IS NULL EXEC (@statement);
