-- What an operator notes about an event, and an index of the open events.
ALTER TABLE ml_events ADD COLUMN operator_note TEXT CHECK (length(operator_note) <= 1000);

CREATE INDEX ix_ml_events_open
ON ml_events (created_at)
WHERE status IN ('active', 'acknowledged');
