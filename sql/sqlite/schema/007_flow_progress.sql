-- Up to which record of the log the readings of a partition are stored: what tells a flow at its
-- start that this database is older than its recovery store.
CREATE TABLE flow_progress (
    topic TEXT NOT NULL,
    partition_number INTEGER NOT NULL,
    topic_id TEXT,
    last_offset INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (topic, partition_number)
);
