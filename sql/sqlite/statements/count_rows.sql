SELECT
    (SELECT count(*) FROM sensor_readings) AS readings,
    (SELECT count(*) FROM ml_events) AS events,
    (SELECT count(*) FROM alert_notifications WHERE source = 'ml_event') AS notifications,
    (SELECT count(*) FROM sink_dead_letters) AS dead_letters;
