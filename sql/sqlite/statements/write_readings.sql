-- Rows of `ReadingRow` in sinks/readings.py, sorted by sensor, event time, seq and value. Rows that
-- are already stored are not changed. Returns the number of new rows. New rows also update the
-- latest value of their sensor, the last connection of their device, and alerts, by the rules at
-- the head of the trigger in sql/mssql/patch_bulk_ingest.sql.
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

-- the sensors whose readings are processed one by one; all others were and stay normal
CREATE TEMP TABLE IF NOT EXISTS watched (sensor_id INTEGER NOT NULL PRIMARY KEY);

DELETE FROM watched;

INSERT INTO watched (sensor_id)
SELECT h.sensor_id
FROM heard AS h
INNER JOIN sensors AS s ON s.id = h.sensor_id
WHERE s.operational_state <> 'NORMAL'
UNION
SELECT a.sensor_id
FROM alerts AS a
INNER JOIN heard AS h ON h.sensor_id = a.sensor_id
WHERE a.status IN ('active', 'acknowledged')
UNION
SELECT r.sensor_id
FROM sensor_readings AS r
INNER JOIN v_threshold_bounds AS b ON b.sensor_id = r.sensor_id
WHERE
    r.id > (SELECT p.id FROM before_batch AS p)
    AND (r.value < b.low OR r.value > b.high OR r.value = b.equal_to);

-- the readings of these sensors that arrived in order
CREATE TEMP TABLE IF NOT EXISTS readings (
    sensor_id INTEGER NOT NULL,
    n INTEGER NOT NULL,
    at TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (sensor_id, n)
) WITHOUT ROWID;

DELETE FROM readings;

INSERT INTO readings (sensor_id, n, at, value)
SELECT
    o.sensor_id,
    row_number() OVER (PARTITION BY o.sensor_id ORDER BY o.n),
    o.at,
    o.value
FROM (
    SELECT
        i.sensor_id,
        i.n,
        i.at,
        i.value,
        max(i.at) OVER (
            PARTITION BY i.sensor_id ORDER BY i.n
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS newest
    FROM (
        SELECT
            r.sensor_id,
            r.event_timestamp AS at,
            r.value,
            row_number() OVER (
                PARTITION BY r.sensor_id ORDER BY r.timestamp, r.event_timestamp, r.seq
            ) AS n
        FROM sensor_readings AS r
        INNER JOIN watched AS w ON w.sensor_id = r.sensor_id
        WHERE
            r.id > (SELECT b.id FROM before_batch AS b)
            AND (
                r.event_timestamp <= r.timestamp
                OR julianday(r.event_timestamp) <= julianday(r.timestamp) + 5.0 / 1440
            )
    ) AS i
) AS o
LEFT JOIN sensor_readings_latest AS l ON l.sensor_id = o.sensor_id
WHERE
    o.at = o.newest
    AND (
        l.sensor_id IS NULL
        OR o.at >= l.latest_timestamp
        -- written by a wrong clock
        OR l.latest_timestamp > strftime('%Y-%m-%d %H:%M:%f', 'now', '5 minutes')
    );

-- the readings that exceed a bound
CREATE TEMP TABLE IF NOT EXISTS over_bound (
    sensor_id INTEGER NOT NULL,
    n INTEGER NOT NULL,
    level INTEGER NOT NULL,
    threshold_id INTEGER,
    PRIMARY KEY (sensor_id, n)
) WITHOUT ROWID;

DELETE FROM over_bound;

INSERT INTO over_bound (sensor_id, n, level, threshold_id)
SELECT
    r.sensor_id,
    r.n,
    max(b.level),
    CASE max(b.level)
        WHEN 2 THEN min(CASE WHEN b.level = 2 THEN b.threshold_id END)
        ELSE min(b.threshold_id)
    END
FROM readings AS r
INNER JOIN v_threshold_bounds AS b ON b.sensor_id = r.sensor_id
INNER JOIN sensors AS s ON s.id = r.sensor_id
WHERE
    (r.value < b.low OR r.value > b.high OR r.value = b.equal_to)
    AND r.n > CASE s.operational_state
        WHEN 'INITIALIZING' THEN s.min_readings_for_normal - s.valid_readings_count
        WHEN 'STALE' THEN s.min_readings_for_normal
        ELSE 0
    END
GROUP BY r.sensor_id, r.n;

-- the active alerts, and the times from which new ones may be raised
CREATE TEMP TABLE IF NOT EXISTS standing (
    sensor_id INTEGER NOT NULL PRIMARY KEY,
    level INTEGER NOT NULL,
    cooldown INTEGER NOT NULL,
    warn_from TEXT NOT NULL,
    alarm_from TEXT NOT NULL
);

DELETE FROM standing;

INSERT INTO standing (sensor_id, level, cooldown, warn_from, alarm_from)
SELECT
    s.sensor_id,
    s.level,
    s.cooldown,
    coalesce(
        strftime(
            '%Y-%m-%d %H:%M:%f',
            (
                SELECT max(a.triggered_at) FROM alerts AS a
                WHERE a.sensor_id = s.sensor_id AND a.severity = 'warning'
            ),
            s.cooldown || ' seconds'
        ),
        ''
    ),
    coalesce(
        strftime(
            '%Y-%m-%d %H:%M:%f',
            (
                SELECT max(a.triggered_at) FROM alerts AS a
                WHERE a.sensor_id = s.sensor_id AND a.severity = 'critical'
            ),
            s.cooldown || ' seconds'
        ),
        ''
    )
FROM (
    SELECT c.sensor_id, max(c.level) AS level, coalesce(p.cooldown_seconds, 300) AS cooldown
    FROM (
        SELECT o.sensor_id, 0 AS level FROM over_bound AS o
        UNION ALL
        SELECT
            a.sensor_id,
            CASE a.severity WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END
        FROM alerts AS a
        INNER JOIN readings AS r ON r.sensor_id = a.sensor_id AND r.n = 1
        WHERE a.status IN ('active', 'acknowledged')
    ) AS c
    LEFT JOIN sensor_threshold_profiles AS p ON p.sensor_id = c.sensor_id
    GROUP BY c.sensor_id
) AS s;

-- the readings that may change something: all that exceed a bound, and the first one after each of
-- them that does not
CREATE TEMP TABLE IF NOT EXISTS turns (
    sensor_id INTEGER NOT NULL,
    k INTEGER NOT NULL,
    at TEXT NOT NULL,
    value REAL NOT NULL,
    level INTEGER NOT NULL,
    threshold_id INTEGER,
    PRIMARY KEY (sensor_id, k)
) WITHOUT ROWID;

DELETE FROM turns;

INSERT INTO turns (sensor_id, k, at, value, level, threshold_id)
SELECT
    t.sensor_id,
    row_number() OVER (PARTITION BY t.sensor_id ORDER BY t.n),
    t.at,
    t.value,
    t.level,
    t.threshold_id
FROM (
    SELECT
        r.sensor_id,
        r.n,
        r.at,
        r.value,
        coalesce(o.level, 0) AS level,
        o.threshold_id,
        lag(coalesce(o.level, 0), 1, s.level) OVER (
            PARTITION BY r.sensor_id ORDER BY r.n
        ) AS last_level
    FROM standing AS s
    INNER JOIN readings AS r ON r.sensor_id = s.sensor_id
    LEFT JOIN over_bound AS o ON o.sensor_id = r.sensor_id AND o.n = r.n
) AS t
WHERE t.level > 0 OR t.last_level > 0;

-- the alerts that each step raises and ends
CREATE TEMP TABLE IF NOT EXISTS steps (
    sensor_id INTEGER NOT NULL,
    k INTEGER NOT NULL,
    raised INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    PRIMARY KEY (sensor_id, k)
) WITHOUT ROWID;

DELETE FROM steps;

INSERT INTO steps (sensor_id, k, raised, ended)
WITH RECURSIVE walk (sensor_id, k, standing, cooldown, warn_from, alarm_from, raised, ended) AS (
    SELECT s.sensor_id, 0, s.level, s.cooldown, s.warn_from, s.alarm_from, 0, 0
    FROM standing AS s
    UNION ALL
    SELECT
        w.sensor_id,
        t.k,
        CASE
            WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from THEN 2
            WHEN t.level = 1 AND w.standing <> 1 AND t.at >= w.warn_from THEN 1
            WHEN t.level < w.standing THEN 0
            ELSE w.standing
        END,
        w.cooldown,
        CASE
            WHEN t.level = 1 AND w.standing <> 1 AND t.at >= w.warn_from
                THEN strftime('%Y-%m-%d %H:%M:%f', t.at, w.cooldown || ' seconds')
            ELSE w.warn_from
        END,
        CASE
            WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from
                THEN strftime('%Y-%m-%d %H:%M:%f', t.at, w.cooldown || ' seconds')
            ELSE w.alarm_from
        END,
        CASE
            WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from THEN 2
            WHEN t.level = 1 AND w.standing <> 1 AND t.at >= w.warn_from THEN 1
            ELSE 0
        END,
        CASE
            WHEN w.standing = 0 THEN 0
            WHEN t.level = 2 AND w.standing < 2 AND t.at >= w.alarm_from THEN 1
            WHEN t.level < w.standing THEN 1
            ELSE 0
        END
    FROM walk AS w
    INNER JOIN turns AS t ON t.sensor_id = w.sensor_id AND t.k = w.k + 1
)

SELECT w.sensor_id, w.k, w.raised, w.ended
FROM walk AS w
WHERE w.raised > 0 OR w.ended > 0;

UPDATE alerts
SET
    status = 'resolved',
    resolved_at = (
        SELECT min(t.at)
        FROM steps AS s
        INNER JOIN turns AS t ON t.sensor_id = s.sensor_id AND t.k = s.k
        WHERE s.sensor_id = alerts.sensor_id AND s.ended = 1
    )
WHERE
    status IN ('active', 'acknowledged')
    AND sensor_id IN (SELECT s.sensor_id FROM steps AS s WHERE s.ended = 1);

INSERT INTO alerts (
    threshold_id, sensor_id, device_id, severity, status, triggered_value, triggered_at, resolved_at
)
SELECT
    r.threshold_id,
    r.sensor_id,
    r.device_id,
    r.severity,
    CASE WHEN r.ended_at IS NULL THEN 'active' ELSE 'resolved' END,
    r.value,
    r.at,
    r.ended_at
FROM (
    SELECT
        t.threshold_id,
        t.sensor_id,
        d.device_id,
        t.value,
        t.at,
        CASE s.raised WHEN 2 THEN 'critical' ELSE 'warning' END AS severity,
        (
            SELECT min(v.at)
            FROM steps AS u
            INNER JOIN turns AS v ON v.sensor_id = u.sensor_id AND v.k = u.k
            WHERE u.sensor_id = s.sensor_id AND u.k > s.k AND u.ended = 1
        ) AS ended_at
    FROM steps AS s
    INNER JOIN turns AS t ON t.sensor_id = s.sensor_id AND t.k = s.k
    INNER JOIN sensors AS d ON d.id = s.sensor_id
    WHERE s.raised > 0
) AS r
ORDER BY r.at, r.sensor_id;

INSERT INTO alert_notifications (
    source, source_event_id, severity, title, message, is_read, created_at, sensor_id, device_id,
    triggered_value, event_type
)
SELECT
    'alert',
    n.id,
    n.severity,
    substr(
        CASE n.severity WHEN 'critical' THEN 'Alerta crítica: ' ELSE 'Advertencia: ' END || n.rule,
        1,
        255
    ),
    n.sensor || ' de ' || n.device || ' marca ' || n.value_text || ' ' || n.unit
    || CASE
        WHEN n.triggered_value > n.high
            THEN ', por encima de ' || rtrim(rtrim(printf('%.5f', n.high), '0'), '.')
        WHEN n.triggered_value < n.low
            THEN ', por debajo de ' || rtrim(rtrim(printf('%.5f', n.low), '0'), '.')
        ELSE ''
    END || '.',
    0,
    n.triggered_at,
    n.sensor_id,
    n.device_id,
    n.triggered_value,
    n.severity
FROM (
    SELECT
        a.id,
        a.severity,
        a.triggered_at,
        a.triggered_value,
        a.sensor_id,
        a.device_id,
        s.name AS sensor,
        s.unit,
        d.name AS device,
        b.name AS rule,
        b.low,
        b.high,
        rtrim(rtrim(printf('%.5f', a.triggered_value), '0'), '.') AS value_text,
        row_number() OVER (PARTITION BY a.id ORDER BY b.threshold_id) AS choice
    FROM steps AS k
    INNER JOIN turns AS t ON t.sensor_id = k.sensor_id AND t.k = k.k
    INNER JOIN alerts AS a
        ON
            a.sensor_id = t.sensor_id
            AND a.severity = CASE k.raised WHEN 2 THEN 'critical' ELSE 'warning' END
            AND a.triggered_at = t.at
    INNER JOIN sensors AS s ON s.id = a.sensor_id
    INNER JOIN devices AS d ON d.id = a.device_id
    INNER JOIN v_threshold_bounds AS b
        ON
            b.sensor_id = a.sensor_id
            AND b.level = k.raised
            AND (b.threshold_id = a.threshold_id OR a.threshold_id IS NULL)
    WHERE k.raised > 0
) AS n
WHERE
    n.choice = 1
    AND NOT EXISTS (
        SELECT 1 FROM alert_notifications AS o
        WHERE o.source = 'alert' AND o.source_event_id = n.id
    )
ORDER BY n.id;

CREATE TEMP TABLE IF NOT EXISTS newest (
    sensor_id INTEGER NOT NULL PRIMARY KEY,
    readings INTEGER NOT NULL,
    at TEXT NOT NULL,
    value REAL NOT NULL,
    level INTEGER NOT NULL
);

DELETE FROM newest;

INSERT INTO newest (sensor_id, readings, at, value, level)
SELECT r.sensor_id, r.n, r.at, r.value, coalesce(o.level, 0)
FROM (
    SELECT q.sensor_id, max(q.n) AS n, q.at, q.value
    FROM readings AS q
    GROUP BY q.sensor_id
) AS r
LEFT JOIN over_bound AS o ON o.sensor_id = r.sensor_id AND o.n = r.n;

UPDATE sensors
SET
    valid_readings_count = x.valid,
    operational_state = x.state,
    state_changed_at = CASE
        WHEN sensors.operational_state = x.state THEN sensors.state_changed_at ELSE x.at
    END
FROM (
    SELECT
        z.id,
        r.at,
        CASE z.operational_state
            WHEN 'INITIALIZING' THEN z.valid_readings_count + r.readings
            WHEN 'STALE' THEN r.readings
            ELSE z.valid_readings_count
        END AS valid,
        CASE
            WHEN
                z.operational_state = 'INITIALIZING'
                AND z.valid_readings_count + r.readings < z.min_readings_for_normal
                THEN 'INITIALIZING'
            WHEN z.operational_state = 'STALE' AND r.readings < z.min_readings_for_normal
                THEN 'INITIALIZING'
            WHEN r.level = 2 THEN 'ALERT'
            WHEN r.level = 1 THEN 'WARNING'
            ELSE 'NORMAL'
        END AS state
    FROM newest AS r
    INNER JOIN sensors AS z ON z.id = r.sensor_id
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
