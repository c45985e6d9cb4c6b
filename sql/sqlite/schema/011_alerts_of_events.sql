-- Alerts that the flow raises: the event that raised them, and its incident. An alert of late
-- readings was over when it was found.
ALTER TABLE alerts ADD COLUMN event_key TEXT;
ALTER TABLE alerts ADD COLUMN incident_key TEXT;
ALTER TABLE alerts ADD COLUMN is_late INTEGER NOT NULL DEFAULT 0;

CREATE UNIQUE INDEX ux_alerts_event ON alerts (event_key) WHERE event_key IS NOT NULL;
CREATE INDEX ix_alerts_incident ON alerts (incident_key) WHERE incident_key IS NOT NULL;
