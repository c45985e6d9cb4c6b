SELECT
    (SELECT count(*) FROM sensor_readings),
    (SELECT count(*) FROM ml_events),
    (SELECT count(*) FROM alert_notifications WHERE source = 'ml_event'),
    (SELECT count(*) FROM sink_dead_letters);
