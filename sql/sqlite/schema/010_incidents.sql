-- The key of the first event of the incident that a row belongs to.
ALTER TABLE ml_events ADD COLUMN incident_key TEXT;
ALTER TABLE alert_notifications ADD COLUMN incident_key TEXT;

CREATE INDEX ix_ml_events_incident ON ml_events (incident_key) WHERE incident_key IS NOT NULL;
CREATE INDEX ix_alert_notifications_incident
ON alert_notifications (incident_key)
WHERE incident_key IS NOT NULL;
