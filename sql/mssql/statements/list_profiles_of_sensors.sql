DECLARE @ids nvarchar(max) = ?;
SELECT
    t.id,
    t.sensor_id,
    CAST(t.warning_min AS float) AS warning_min,
    CAST(t.warning_max AS float) AS warning_max,
    CAST(t.alert_min AS float) AS alert_min,
    CAST(t.alert_max AS float) AS alert_max
FROM OPENJSON (@ids) WITH (id bigint '$') AS s
INNER JOIN dbo.sensor_threshold_profiles AS t ON t.sensor_id = s.id
ORDER BY t.id;
