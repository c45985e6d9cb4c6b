import json
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from time import sleep, time

import anyio
import httpx
import msgspec
import pytest
import uvicorn

from contract.errors import UnavailableError
from ml.batch import run_once
from ml.predict.metrics import REGISTRY
from ml.predict.store import clock
from ml.service import app
from tests.databases import environment_of
from tests.ml.conftest import START

PROBLEM = "application/problem+json"


@contextmanager
def service(place, monkeypatch, now=START, **more):
    for name, value in (environment_of(place.settings) | more).items():
        monkeypatch.setenv(name, value)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the service does not start"
            sleep(0.01)
        app.state.running = replace(app.state.running, clock=lambda _: now)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(place, monkeypatch):
    with service(place, monkeypatch, AUTO_CREATE_MODEL="true") as made:
        yield made


def ask(client, sensor, headers=None, **more):
    return client.post("/ml/predict", json={"sensor_id": sensor, **more}, headers=headers)


def add_model(
    place, sensor, kind="sklearn", metadata=None, trained="2024-11-24 10:00:00", active=1
):
    place.do(
        "INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at,"
        " metadata) VALUES (?, ?, ?, '1.0.0', ?, ?, ?)",
        sensor, f"{kind} of the test", kind, active, trained, metadata,
    )  # fmt: skip
    statement = "SELECT MAX(id) FROM ml_models WHERE sensor_id = ?"
    return int(place.row(statement, sensor)[0])


def line(slope, to="2024-11-24T12:00:00Z"):
    return json.dumps(
        {
            "format": 1, "kind": "ridge_trend", "slope_per_minute": slope, "intercept": 1.0,
            "residual_scale": 0.5, "r2": 0.5, "points": 500,
            "trained_from": "2024-11-24T09:00:00Z", "trained_to": to,
        }
    )  # fmt: skip


def test_the_response_is_as_documented_and_the_row_has_every_column(client, place):
    sensor = place.sensor()
    last = place.store(sensor, [20.0, 21.0, 25.0])
    answer = ask(client, sensor)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == [
        "sensor_id", "model_id", "prediction_id", "predicted_value", "confidence",
        "target_timestamp", "horizon_minutes", "window",
    ]  # fmt: skip
    assert (body["sensor_id"], body["horizon_minutes"], body["window"]) == (sensor, 10, 60)
    assert body["predicted_value"] == 22.0
    assert body["confidence"] == 0.05
    assert last == START + 120_000
    assert body["target_timestamp"] == "2024-11-24T10:12:00+00:00"
    row = place.row(
        "SELECT id, model_id, sensor_id, device_id, predicted_value, confidence, predicted_at,"
        " target_timestamp, horizon_minutes, window_points, trend, is_anomaly, anomaly_score,"
        " risk_level, severity, status, explanation FROM predictions WHERE sensor_id = ?",
        sensor,
    )
    assert row[0] == body["prediction_id"]
    assert row[1] == body["model_id"]
    (device,) = place.row("SELECT device_id FROM sensors WHERE id = ?", sensor)
    assert row[2:4] == (sensor, device)
    assert [float(row[4]), float(row[5])] == [22.0, 0.05]
    assert [str(at)[:19] for at in row[6:8]] == ["2024-11-24 10:02:00", "2024-11-24 10:12:00"]
    assert row[8:16] == (10, 60, "stable", 0, 0.0, "LOW", "info", "active")
    assert {"short_message", "recommended_action"} <= set(json.loads(row[16]))


def test_a_repeated_request_gives_the_same_prediction_and_writes_nothing_twice(client, place):
    sensor = place.sensor(bounds={"critical": (0.0, 10.0)})
    place.store(sensor, [20.0, 21.0])
    first, again = ask(client, sensor).json(), ask(client, sensor).json()
    assert first == again
    assert place.row("SELECT COUNT(*) FROM predictions WHERE sensor_id = ?", sensor) == (1,)
    assert events(place, sensor) == [("PRED_THRESHOLD_BREACH", "critical", "active")]
    place.store(sensor, [20.0], start=START + 3_600_000)
    assert ask(client, sensor).json()["prediction_id"] != first["prediction_id"]


def test_each_horizon_and_each_window_has_a_prediction_of_its_own(client, place):
    sensor = place.sensor()
    place.store(sensor, [20.0, 21.0])
    asked = [(5, 60), (30, 60), (5, 90), (5, 60)]  # two readings, whatever the window
    bodies = [ask(client, sensor, horizon_minutes=h, window=w).json() for h, w in asked]
    ids = [body["prediction_id"] for body in bodies]
    assert (len(set(ids)), ids[0]) == (3, ids[3])
    for (horizon, window), body in zip(asked, bodies, strict=True):
        row = place.row(
            "SELECT horizon_minutes, window_points, target_timestamp, confidence FROM predictions"
            " WHERE id = ?",
            body["prediction_id"],
        )
        assert row[:2] == (horizon, window) == (body["horizon_minutes"], body["window"])
        assert str(row[2])[:19] == body["target_timestamp"][:19].replace("T", " ")
        assert float(row[3]) == body["confidence"] == round(2 / window, 4)


def test_a_time_that_has_passed_is_not_forecast(place, monkeypatch):
    sensor = place.sensor(bounds={"critical": (0.0, 10.0)})
    last = place.store(sensor, [20.0, 21.0])
    with service(place, monkeypatch, last + 600_000, AUTO_CREATE_MODEL="1") as client:
        answer = ask(client, sensor)
        check_problem(answer, 400, "old_readings")
        assert "2024-11-24 10:01:00 UTC" in answer.json()["detail"]
        assert "longer horizon" in answer.json()["detail"]
        for table in ("predictions", "ml_events", "ml_models"):
            assert place.rows(f"SELECT id FROM {table} WHERE sensor_id = ?", sensor) == []
        assert ask(client, sensor, horizon_minutes=11).status_code == 200


def test_the_clock_is_the_databases(place, monkeypatch):
    sensor = place.sensor()
    place.store(sensor, [20.0], start=int(time() * 1000) - 300_000)
    old = place.sensor()
    place.store(old, [20.0], start=int(time() * 1000) - 700_000)
    with service(place, monkeypatch, AUTO_CREATE_MODEL="1") as client:
        app.state.running = replace(app.state.running, clock=clock)
        assert [ask(client, s).status_code for s in (sensor, old)] == [200, 400]


def events(place, sensor):
    return place.rows(
        "SELECT event_code, event_type, status FROM ml_events WHERE sensor_id = ? ORDER BY id",
        sensor,
    )


def test_a_breach_is_stored_with_its_notification_and_its_prediction(client, place):
    sensor = place.sensor(bounds={"warning": (0.0, 10.0)})
    place.store(sensor, [20.0, 21.0])
    body = ask(client, sensor).json()
    event = place.row(
        "SELECT e.id, e.prediction_id, e.event_type, e.title, e.message, e.payload, e.event_key"
        " FROM ml_events AS e WHERE e.sensor_id = ?",
        sensor,
    )
    note = place.row(
        "SELECT source_event_id, severity, title, message, is_read, triggered_value, event_key,"
        " event_type FROM alert_notifications WHERE source = 'ml_event' AND sensor_id = ?",
        sensor,
    )
    assert event[1] == body["prediction_id"]
    assert note[0] == event[0]
    assert (note[1], note[7], event[2]) == ("warning",) * 3
    assert note[2:4] == event[3:5]
    assert not note[4]
    assert float(note[5]) == body["predicted_value"]
    assert note[6] == event[6]
    assert json.loads(event[5])["predicted_value"] == body["predicted_value"]
    assert "recommended_action" in json.loads(event[5])


def test_an_open_event_suppresses_new_ones_for_the_given_time(client, place):
    sensor = place.sensor(bounds={"warning": (0.0, 10.0)})
    place.store(sensor, [20.0])
    ask(client, sensor)
    place.store(sensor, [20.0], start=START + 540_000)  # 9 min later
    ask(client, sensor, dedupe_minutes=10)
    assert len(events(place, sensor)) == 1
    place.do("UPDATE ml_events SET status = 'acknowledged' WHERE sensor_id = ?", sensor)
    place.store(sensor, [20.0], start=START + 560_000)
    ask(client, sensor, dedupe_minutes=10)
    assert len(events(place, sensor)) == 1
    ask(client, sensor, dedupe_minutes=5)  # the open one is older than that
    assert len(events(place, sensor)) == 2
    place.do("UPDATE ml_events SET status = 'resolved' WHERE sensor_id = ?", sensor)
    place.store(sensor, [20.0], start=START + 580_000)
    ask(client, sensor, dedupe_minutes=10)
    assert len(events(place, sensor)) == 3


def test_the_newest_readings_count_by_event_time_and_late_ones_are_ignored(client, place):
    sensor = place.sensor()
    place.store(sensor, [1.0, 2.0, 3.0], start=START)
    first = ask(client, sensor, window=2).json()
    assert first["predicted_value"] == 2.5
    place.store(sensor, [100.0], start=START - 60_000)
    assert ask(client, sensor, window=2).json() == first
    place.store(sensor, [9.0], start=START + 120_000, seq=1)  # at the same time as the last
    assert ask(client, sensor, window=2).json()["predicted_value"] == 6.0


def test_readings_from_other_programs_are_ordered_by_their_insert_time(client, place):
    sensor = place.sensor()
    place.store(sensor, [1.0])
    for minute, value in ((1, 4.0), (2, 5.0), (3, 7.0)):
        place.do(
            "INSERT INTO sensor_readings (sensor_id, value, timestamp) VALUES (?, ?, ?)",
            sensor, value, f"2024-11-24 10:0{minute}:00.000",
        )  # fmt: skip
    body = ask(client, sensor, window=2).json()
    assert body["predicted_value"] == 6.0
    assert body["target_timestamp"] == "2024-11-24T10:13:00+00:00"


def test_without_a_model_and_without_auto_create_409_says_what_to_do(place, monkeypatch):
    sensor = place.sensor()
    place.store(sensor, [1.0])
    add_model(place, sensor, active=0)
    with service(place, monkeypatch) as client:
        answer = ask(client, sensor)
        assert answer.status_code == 409
        assert answer.headers["content-type"] == PROBLEM
        assert "python -m ml.batch --once" in answer.json()["detail"]
        assert "AUTO_CREATE_MODEL=true" in answer.json()["detail"]
        assert client.get("/health").json()["without_model"] == "refuse"
        add_model(place, sensor, kind="baseline")
        assert ask(client, sensor).status_code == 200


def test_a_baseline_is_created_once_with_the_name_that_the_flow_uses(client, place):
    sensor = place.sensor()
    place.store(sensor, [1.0])
    ask(client, sensor)
    ask(client, sensor)
    model = place.row(
        "SELECT model_name, model_type, version, is_active FROM ml_models WHERE sensor_id = ?",
        sensor,
    )
    assert model == ("baseline_moving_average", "baseline", "1.0.0", 1)


def test_the_active_model_is_the_one_trained_last(client, place):
    sensor = place.sensor()
    place.store(sensor, [1.0, 2.0, 3.0])
    add_model(place, sensor, "baseline", trained="2024-11-23 10:00:00")
    newest = add_model(place, sensor, "sklearn", line(0.5), trained="2024-11-24 09:00:00")
    add_model(place, sensor, "sklearn", line(9.0), trained="2024-11-22 09:00:00")
    add_model(place, sensor, "sklearn", line(7.0), trained="2024-11-24 11:00:00", active=0)
    body = ask(client, sensor).json()
    assert body["model_id"] == newest
    assert body["predicted_value"] == 2.0 + 0.5 * 11


@pytest.mark.parametrize("metadata", [None, "", "{", "{}", '{"format":2}', line(1.0)[:-2]])
def test_a_model_that_cannot_be_read_is_replaced_by_the_moving_average(client, place, metadata):
    sensor = place.sensor()
    place.store(sensor, [1.0, 2.0, 6.0])
    model = add_model(place, sensor, "sklearn", metadata)
    body = ask(client, sensor).json()
    assert (body["model_id"], body["predicted_value"]) == (model, 3.0)
    statement = "SELECT engine_name FROM predictions WHERE sensor_id = ?"
    assert place.row(statement, sensor) == ("moving_average",)


def test_a_model_from_the_batch_is_used_and_the_batchs_prediction_is_kept(client, place):
    sensor = place.sensor()
    values = [20.0 + n / 10 for n in range(99)] + [80.0]
    place.store(sensor, values)
    run_once(place.database, place.settings, 10, now=lambda _: START)

    def rows():
        return place.rows(
            "SELECT id, is_anomaly, anomaly_score, engine_name FROM predictions"
            " WHERE sensor_id = ? ORDER BY id",
            sensor,
        )

    (before,) = rows()
    assert before[1] == 1
    body = ask(client, sensor, window=30).json()
    assert rows() == [before, (body["prediction_id"], 0, 0.0, "model_slope")]
    body = ask(client, sensor, window=100).json()  # the batch's own window
    assert rows()[0] == (body["prediction_id"], *before[1:3], "model_slope")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "sensor_id"),
        ({"sensor_id": 0}, "sensor_id"),
        ({"sensor_id": 2**63}, "sensor_id"),
        ({"sensor_id": "drop table"}, "sensor_id"),
        ({"sensor_id": 1, "horizon_minutes": 0}, "horizon_minutes"),
        ({"sensor_id": 1, "horizon_minutes": 1441}, "horizon_minutes"),
        ({"sensor_id": 1, "window": 1001}, "window"),
        ({"sensor_id": 1, "window": 1.5}, "window"),
        ({"sensor_id": 1, "dedupe_minutes": 0}, "dedupe_minutes"),
        ([], "body"),
    ],
)
def test_an_invalid_request_is_refused_by_field_without_echoing_its_content(
    here, monkeypatch, body, field
):
    with service(here, monkeypatch) as client:
        answer = client.post("/ml/predict", json=body)
    check_problem(answer, 422, "invalid")
    assert answer.json()["detail"].startswith(f"{field}: ")
    assert "drop table" not in answer.text


def test_responses_are_counted_by_status_and_timed(here, monkeypatch):
    def count(name, **labels):
        return REGISTRY.get_sample_value(f"iot_predict_{name}", labels or None) or 0

    before = {status: count("requests_total", status=status) for status in ("200", "401", "422")}
    seconds = count("seconds_count")
    sensor = here.sensor()
    here.store(sensor, [20.0])
    with service(here, monkeypatch, AUTO_CREATE_MODEL="1", INGEST_API_KEY="k") as client:
        key = {"X-API-Key": "k"}
        assert ask(client, sensor, key).status_code == 200
        assert ask(client, 0, key).status_code == 422
        assert ask(client, sensor).status_code == 401
        metrics = client.get("/metrics").text
    assert {status: count("requests_total", status=status) - n for status, n in before.items()} == {
        "200": 1, "401": 1, "422": 1
    }  # fmt: skip
    assert count("seconds_count") == seconds + 3
    assert 'iot_predict_requests_total{status="200"}' in metrics


def check_problem(answer, status, reason):
    assert answer.status_code == status
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "reason"}
    assert (body["status"], body["reason"]) == (status, reason)


def test_all_other_refusals_are_problem_documents_too(here, monkeypatch):
    sensor = here.sensor()
    with service(here, monkeypatch, AUTO_CREATE_MODEL="1") as client:
        check_problem(ask(client, sensor), 400, "no_readings")
        check_problem(ask(client, sensor + 1), 404, "unknown_sensor")
        check_problem(client.get("/nothing"), 404, "path")
        check_problem(client.get("/ml/predict"), 405, "method")
        assert client.get("/ml/predict").headers["allow"] == "POST"
        answer = client.post(
            "/ml/predict", content=b"{", headers={"content-type": "application/json"}
        )
        check_problem(answer, 422, "invalid")
        assert answer.json()["detail"].startswith("body: ")
        check_problem(client.post("/ml/predict", content=b" " * 20_000), 413, "too_large")
        check_problem(client.post("/ml/predict", content=iter([b"{}"])), 411, "length")


def test_inactive_and_deleted_sensors_are_unknown(place, client):
    inactive, deleted = place.sensor(), place.sensor()
    for sensor in (inactive, deleted):
        place.store(sensor, [1.0])
    place.do("UPDATE sensors SET is_active = 0 WHERE id = ?", inactive)
    place.do(
        "UPDATE devices SET status = 'deleted' WHERE id ="
        " (SELECT device_id FROM sensors WHERE id = ?)",
        deleted,
    )
    for sensor in (inactive, deleted):
        check_problem(ask(client, sensor), 404, "unknown_sensor")
    if place.settings.engine == "mssql":
        marked = place.sensor()
        place.store(marked, [1.0])
        place.do("UPDATE sensors SET is_deleted = 1 WHERE id = ?", marked)
        check_problem(ask(client, marked), 404, "unknown_sensor")


def test_with_a_key_set_only_requests_with_the_key_are_accepted(here, monkeypatch):
    sensor = here.sensor()
    here.store(sensor, [1.0])
    with service(here, monkeypatch, INGEST_API_KEY="secret", AUTO_CREATE_MODEL="1") as client:
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}):
            answer = ask(client, sensor, headers)
            check_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "ApiKey"
        check_problem(client.post("/ml/predict", content=b"{"), 401, "unauthorized")
        assert ask(client, sensor, {"X-API-Key": "secret"}).status_code == 200
        assert client.get("/health").json() == {
            "status": "ok", "auth": "api-key", "without_model": "create",
        }  # fmt: skip


def test_an_unavailable_database_is_503_and_the_service_recovers(here, monkeypatch):
    sensor = here.sensor()
    here.store(sensor, [1.0])
    with service(here, monkeypatch, AUTO_CREATE_MODEL="1") as client:
        assert client.get("/health/ready").status_code == 200
        here.do("BEGIN EXCLUSIVE")  # longer than a writer waits
        try:
            answer = ask(client, sensor)
        finally:
            here.do("ROLLBACK")
        check_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/health").status_code == 200
        assert ask(client, sensor).status_code == 200


def test_a_missing_schema_aborts_the_start_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("IOT_SQLITE_PATH", str(tmp_path / "none.db"))
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "lifespan.startup"}

    anyio.run(app, {"type": "lifespan", "state": {}}, receive, send)
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "run `python -m sql`" in sent[0]["message"]
    assert "\n" not in sent[0]["message"]


def test_texts_are_in_the_configured_language(here, monkeypatch):
    sensor = here.sensor()
    here.store(sensor, [1.0])
    for language, word in (("es", "se espera"), ("en", "is expected")):
        with service(here, monkeypatch, AUTO_CREATE_MODEL="1", IOT_LANG=language) as client:
            ask(client, sensor)
        (text,) = here.row("SELECT explanation FROM predictions")
        assert word in msgspec.json.decode(text)["short_message"]


def test_the_service_starts_while_the_database_is_unavailable(here, monkeypatch):
    def away(settings):
        raise UnavailableError("away")

    sensor = here.sensor()
    here.store(sensor, [1.0])
    with monkeypatch.context() as patch:
        patch.setattr("ml.predict.connections.open_database", away)
        with service(here, monkeypatch, AUTO_CREATE_MODEL="1") as client:
            check_problem(ask(client, sensor), 503, "unavailable")
            patch.undo()
            assert ask(client, sensor).status_code == 200
