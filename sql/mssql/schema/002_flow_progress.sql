-- Up to which record of the log the readings of a partition are stored: what tells a flow at its
-- start that this database is older than its recovery store.
SET ANSI_NULLS ON;
SET QUOTED_IDENTIFIER ON;
GO
IF OBJECT_ID(N'dbo.flow_progress', N'U') IS NULL
CREATE TABLE dbo.flow_progress (
    topic varchar(249) NOT NULL,
    partition_number int NOT NULL,
    topic_id varchar(40) NULL,
    last_offset bigint NOT NULL,
    updated_at datetime2(3) NOT NULL,
    PRIMARY KEY (topic, partition_number)
);
GO
