-- Rows of `ReadingRow` in sinks/readings.py, sorted by sensor, event time, seq and value. Rows that
-- are already stored are not changed. Returns the number of new rows. New rows also update the
-- latest value and the state of their sensor, and the last connection of their device.
DROP INDEX IF EXISTS ux_sensor_readings_event;

CREATE TEMP TABLE IF NOT EXISTS before_batch (id INTEGER NOT NULL);

DELETE FROM before_batch;

INSERT INTO before_batch (id) SELECT coalesce(max(r.id), 0) FROM sensor_readings AS r;

INSERT INTO sensor_readings (sensor_id, value, timestamp, device_timestamp, event_timestamp, seq)
SELECT
    json_extract(r.value, '$[0]'),
    json_extract(r.value, '$[1]'),
    json_extract(r.value, '$[2]'),
    json_extract(r.value, '$[3]'),
    json_extract(r.value, '$[4]'),
    json_extract(r.value, '$[5]')
FROM json_each(?1) AS r
WHERE true
ON CONFLICT (sensor_id, event_timestamp, seq, value) WHERE event_timestamp IS NOT NULL DO NOTHING;

-- for each sensor, the newest new reading that is not from the future: the batch is sorted, so it
-- is the last one
CREATE TEMP TABLE IF NOT EXISTS heard (
    sensor_id INTEGER NOT NULL PRIMARY KEY,
    id INTEGER,
    arrived TEXT NOT NULL
);

DELETE FROM heard;

INSERT INTO heard (sensor_id, id, arrived)
SELECT
    r.sensor_id,
    max(
        CASE
            WHEN
                r.event_timestamp <= r.timestamp
                OR julianday(r.event_timestamp) <= julianday(r.timestamp) + 5.0 / 1440
                THEN r.id
        END
    ),
    max(r.timestamp)
FROM sensor_readings AS r
WHERE r.id > (SELECT b.id FROM before_batch AS b)
GROUP BY r.sensor_id;

-- for each sensor in its warm-up, the number of readings that arrived in order
CREATE TEMP TABLE IF NOT EXISTS warming (
    sensor_id INTEGER NOT NULL PRIMARY KEY,
    readings INTEGER NOT NULL
);

DELETE FROM warming;

INSERT INTO warming (sensor_id, readings)
SELECT o.sensor_id, count(*)
FROM (
    SELECT
        r.sensor_id,
        r.event_timestamp AS at,
        max(r.event_timestamp) OVER (
            PARTITION BY r.sensor_id ORDER BY r.timestamp, r.event_timestamp, r.seq
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS newest
    FROM sensor_readings AS r
    INNER JOIN sensors AS s ON s.id = r.sensor_id
    WHERE
        r.id > (SELECT b.id FROM before_batch AS b)
        AND s.operational_state IN ('INITIALIZING', 'STALE')
        AND (
            r.event_timestamp <= r.timestamp
            OR julianday(r.event_timestamp) <= julianday(r.timestamp) + 5.0 / 1440
        )
) AS o
LEFT JOIN sensor_readings_latest AS l ON l.sensor_id = o.sensor_id
WHERE
    o.at = o.newest
    AND (
        l.sensor_id IS NULL
        OR o.at >= l.latest_timestamp
        -- written by a wrong clock
        OR l.latest_timestamp > strftime('%Y-%m-%d %H:%M:%f', 'now', '5 minutes')
    )
GROUP BY o.sensor_id;

UPDATE sensors
SET
    valid_readings_count = x.valid,
    operational_state = x.state,
    state_changed_at = CASE
        WHEN sensors.operational_state = x.state THEN sensors.state_changed_at ELSE x.at
    END
FROM (
    SELECT
        c.id,
        c.at,
        c.valid,
        CASE
            WHEN c.warms AND c.valid < c.min_readings_for_normal THEN 'INITIALIZING'
            ELSE v.state
        END AS state
    FROM (
        SELECT
            s.id,
            s.min_readings_for_normal,
            r.event_timestamp AS at,
            w.sensor_id IS NOT NULL AS warms,
            CASE s.operational_state WHEN 'STALE' THEN 0 ELSE s.valid_readings_count END
            + coalesce(w.readings, 0) AS valid
        FROM heard AS h
        INNER JOIN sensor_readings AS r ON r.id = h.id
        INNER JOIN sensors AS s ON s.id = h.sensor_id
        LEFT JOIN warming AS w ON w.sensor_id = h.sensor_id
        WHERE
            w.sensor_id IS NOT NULL
            OR s.operational_state IN ('WARNING', 'ALERT')
            OR (
                s.operational_state NOT IN ('INITIALIZING', 'STALE')
                AND EXISTS (
                    SELECT 1 FROM alerts AS a
                    WHERE a.sensor_id = s.id AND a.status IN ('active', 'acknowledged')
                )
            )
    ) AS c
    INNER JOIN v_alert_states AS v ON v.sensor_id = c.id
) AS x
WHERE
    x.id = sensors.id
    AND (x.state <> sensors.operational_state OR x.valid <> sensors.valid_readings_count);

INSERT INTO sensor_readings_latest (sensor_id, latest_value, latest_timestamp)
SELECT r.sensor_id, r.value, r.event_timestamp
FROM heard AS h
INNER JOIN sensor_readings AS r ON r.id = h.id
WHERE true
ON CONFLICT (sensor_id) DO UPDATE SET
    latest_value = excluded.latest_value,
    latest_timestamp = excluded.latest_timestamp
WHERE
    excluded.latest_timestamp >= sensor_readings_latest.latest_timestamp
    OR sensor_readings_latest.latest_timestamp
    > strftime('%Y-%m-%d %H:%M:%f', 'now', '5 minutes');

UPDATE devices
SET
    last_connection = x.at,
    status = CASE
        WHEN devices.status IN ('offline', 'error') THEN 'online' ELSE devices.status
    END
FROM (
    SELECT s.device_id, max(h.arrived) AS at
    FROM heard AS h
    INNER JOIN sensors AS s ON s.id = h.sensor_id
    GROUP BY s.device_id
) AS x
WHERE
    x.device_id = devices.id
    AND (
        coalesce(devices.last_connection, '') < x.at
        OR devices.last_connection > strftime('%Y-%m-%d %H:%M:%f', 'now')
    );

SELECT count(*) FROM sensor_readings AS r
WHERE r.id > (SELECT b.id FROM before_batch AS b);
