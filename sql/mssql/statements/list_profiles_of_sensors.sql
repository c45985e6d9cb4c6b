DECLARE @ids nvarchar(max) = ?;
SELECT
    t.id,
    t.sensor_id,
    CAST(t.warning_min AS float),
    CAST(t.warning_max AS float),
    CAST(t.alert_min AS float),
    CAST(t.alert_max AS float)
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
INNER JOIN dbo.sensor_threshold_profiles AS t ON t.sensor_id = s.id
ORDER BY t.id;
