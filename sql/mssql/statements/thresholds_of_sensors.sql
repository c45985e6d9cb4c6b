DECLARE @ids nvarchar(max) = ?;
SELECT
    t.sensor_id,
    t.id,
    t.name,
    t.condition_type,
    CAST(t.threshold_value_min AS float),
    CAST(t.threshold_value_max AS float),
    t.severity
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
INNER JOIN dbo.alert_thresholds AS t ON t.sensor_id = s.id
WHERE t.is_active = 1
UNION ALL
SELECT
    p.sensor_id,
    NULL,
    'profile',
    'out_of_range',
    CAST(p.warning_min AS float),
    CAST(p.warning_max AS float),
    'warning'
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
INNER JOIN dbo.sensor_threshold_profiles AS p ON p.sensor_id = s.id
UNION ALL
SELECT
    p.sensor_id,
    NULL,
    'profile',
    'out_of_range',
    CAST(p.alert_min AS float),
    CAST(p.alert_max AS float),
    'critical'
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
INNER JOIN dbo.sensor_threshold_profiles AS p ON p.sensor_id = s.id
ORDER BY 1, 2;
