SELECT
    (SELECT COUNT_BIG(*) FROM dbo.sensor_readings) AS readings,
    (SELECT COUNT_BIG(*) FROM dbo.ml_events) AS events,
    (SELECT COUNT_BIG(*) FROM dbo.alert_notifications WHERE source = 'ml_event') AS notifications,
    (SELECT COUNT_BIG(*) FROM dbo.sink_dead_letters) AS dead_letters;
