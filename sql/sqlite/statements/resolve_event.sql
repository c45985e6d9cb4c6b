-- Resolves an event. One that has ended meanwhile keeps its end.
-- The notifications of its incident are marked as read, but not those of other active events that
-- began no earlier: the operator may not have seen that it got worse.
UPDATE ml_events
SET
    status = 'resolved',
    resolved_at = strftime('%Y-%m-%d %H:%M:%f', 'now'),
    resolved_by = json_extract(?1, '$.user_id')
WHERE id = json_extract(?1, '$.event_id') AND status IN ('active', 'acknowledged');

UPDATE ml_events
SET operator_note = json_extract(?1, '$.note')
WHERE
    id = json_extract(?1, '$.event_id')
    AND status = 'resolved'
    AND json_extract(?1, '$.note') IS NOT NULL;

UPDATE alert_notifications
SET is_read = 1, read_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE
    is_read = 0
    AND source = 'ml_event'
    AND source_event_id = (
        SELECT e.id
        FROM ml_events AS e
        WHERE e.id = json_extract(?1, '$.event_id') AND e.status = 'resolved'
    );

UPDATE alert_notifications
SET is_read = 1, read_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
WHERE
    is_read = 0
    AND incident_key = (
        SELECT e.incident_key
        FROM ml_events AS e
        WHERE e.id = json_extract(?1, '$.event_id') AND e.status = 'resolved'
    )
    AND NOT (
        source = 'ml_event'
        AND source_event_id IN (
            SELECT o.id
            FROM ml_events AS e
            INNER JOIN ml_events AS o
                ON o.incident_key = e.incident_key AND o.created_at >= e.created_at
            WHERE e.id = json_extract(?1, '$.event_id') AND o.status = 'active'
        )
    );
