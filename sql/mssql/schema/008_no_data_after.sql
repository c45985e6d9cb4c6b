-- How long a sensor or a device may send nothing before it is reported, in seconds; 0: never.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF COL_LENGTH(N'dbo.sensors', N'no_data_after_seconds') IS NULL
ALTER TABLE dbo.sensors ADD no_data_after_seconds int NULL;
GO
IF COL_LENGTH(N'dbo.devices', N'no_data_after_seconds') IS NULL
ALTER TABLE dbo.devices ADD no_data_after_seconds int NULL;
GO
