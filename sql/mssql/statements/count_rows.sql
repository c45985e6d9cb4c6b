SELECT
    (SELECT COUNT_BIG(*) FROM dbo.sensor_readings),
    (SELECT COUNT_BIG(*) FROM dbo.ml_events),
    (SELECT COUNT_BIG(*) FROM dbo.alert_notifications WHERE source = 'ml_event'),
    (SELECT COUNT_BIG(*) FROM dbo.sink_dead_letters);
