-- Inserts 1_000_000 readings, one per sensor and second. Parameters: the number of sensors, a time,
-- and an offset in seconds; the newest readings are offset + 1 s before the time.
INSERT INTO dbo.sensor_readings (
    sensor_id, value, [timestamp], device_timestamp, event_timestamp, seq
)
SELECT r.sensor_id, 20, r.at, r.at, r.at, 0
FROM (
    SELECT
        n.n % p.sensors + 1 AS sensor_id,
        DATEADD(second, -n.n / p.sensors - 1 - p.before, p.start) AS at
    FROM (
        SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d AS n
        FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS a (d)
        CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS b (d)
        CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS c (d)
        CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS e (d)
        CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS f (d)
        CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS g (d)
    ) AS n
    CROSS JOIN (
        SELECT CAST(? AS int) AS sensors, CAST(? AS datetime2(3)) AS start, CAST(? AS int) AS before
    ) AS p
) AS r;
