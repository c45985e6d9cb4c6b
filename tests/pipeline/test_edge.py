import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import sleep
from uuid import UUID, uuid4

import httpx
import pytest

from ops.devices import SensorSpec

from .conftest import wait_until
from .test_pipeline import records


@pytest.fixture
def rig(pipeline):
    pipeline.start_edge()
    return pipeline.register()


def body(rig, value=1.5, sensor="pump", **more):
    return {
        "device_uuid": rig.uuid,
        "readings": [{"sensor_uuid": rig.sensors[sensor], "value": value}],
        **more,
    }


def test_each_kind_of_request_gets_its_answer(pipeline, rig, brokers):
    unknown = str(uuid4())
    both = body(rig)
    both["readings"].append({"sensor_uuid": unknown, "value": 1})
    answers = {
        "good": pipeline.post(body(rig)),
        "partly known": pipeline.post(both),
        "unknown device": pipeline.post(body(rig) | {"device_uuid": unknown}),
        "unknown sensors": pipeline.post(
            {"device_uuid": rig.uuid, "readings": [{"sensor_uuid": unknown, "value": 1}]}
        ),
        "wrong": pipeline.post(body(rig, "much")),
        "large": httpx.post(f"{pipeline.url}/ingest/packets", content=b" " * 1_048_577),
        "elsewhere": pipeline.post({}, "/ingest"),
        "other method": httpx.get(f"{pipeline.url}/ingest/packets"),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "good": 202, "partly known": 202, "unknown device": 404, "unknown sensors": 422,
        "wrong": 422, "large": 413, "elsewhere": 404, "other method": 405,
    }  # fmt: skip
    assert answers["partly known"].json()["unknown_sensors"] == [unknown]
    for answer in answers.values():
        if answer.status_code > 299:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
            assert answer.json()["detail"]
    assert len(records(brokers, pipeline.topic)) == 2


def test_the_clients_of_the_old_system_get_what_they_got(pipeline, rig):
    ids = dict(pipeline.rows("SELECT name, id FROM sensors"))
    one = pipeline.post({"sensor_id": ids["boiler"], "value": 23.5}, "/ingest/readings")
    readings = [
        {"sensor_id": number, "value": 1, "timestamp": "2024-11-24T10:00:00Z"}
        for number in ids.values()
    ]
    bulk = pipeline.post({"readings": readings}, "/ingest/readings/bulk")
    health = httpx.get(f"{pipeline.url}/health")
    assert (one.status_code, one.json()) == (200, {"inserted": 1})
    assert (bulk.status_code, bulk.json()) == (200, {"inserted": 2})
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert pipeline.post({"sensor_id": 999, "value": 1}, "/ingest/readings").status_code == 422


def test_legacy_readings_of_several_devices_go_to_the_partition_of_each(pipeline, rig, brokers):
    other = pipeline.register("other", SensorSpec("x", "other", ""))
    ids = [row[0] for row in pipeline.rows("SELECT id FROM sensors ORDER BY id")]
    readings = [{"sensor_id": number, "value": 1} for number in [*ids, 999]]
    answer = pipeline.post({"readings": readings}, "/ingest/readings/bulk")
    assert answer.json() == {"inserted": 3, "unknown_sensors": [999]}
    keys = sorted(message.key().decode() for message in records(brokers, pipeline.topic))
    assert keys == sorted([rig.uuid, other.uuid])


def test_a_key_that_is_set_must_be_given(pipeline):
    rig = pipeline.register()
    pipeline.start_edge(INGEST_API_KEY="t0ken")
    assert pipeline.post(body(rig)).status_code == 401
    assert pipeline.post(body(rig), **{"X-API-Key": "other"}).status_code == 401
    assert "t0ken" not in (pipeline.folder / "edge.log").read_text()
    assert httpx.get(f"{pipeline.url}/health").json() == {"status": "ok", "auth": "api-key"}


def test_the_right_key_opens(pipeline):
    rig = pipeline.register()
    pipeline.start_edge(INGEST_API_KEY="t0ken")
    assert pipeline.post(body(rig), **{"X-API-Key": "t0ken"}).status_code == 202


def test_a_device_that_was_unknown_is_let_in_soon_after_it_was_made(pipeline, rig):
    late = {
        "device_uuid": str(UUID(int=5)),
        "readings": [{"sensor_uuid": str(UUID(int=6)), "value": 1}],
    }
    assert pipeline.post(late).status_code == 404
    pipeline.database.execute("add_device", late["device_uuid"], "late", "gateway")
    sensor = late["readings"][0]["sensor_uuid"]
    pipeline.database.execute("add_sensor", late["device_uuid"], sensor, "other", "x", "")
    wait_until(lambda: pipeline.post(late).status_code == 202, 5)


def test_an_inactive_sensor_counts_as_unknown(pipeline, rig):
    pipeline.rows("UPDATE sensors SET is_active = 0 WHERE name = 'pump'")
    assert pipeline.post(body(rig)).status_code == 422


def test_known_devices_go_on_when_the_database_is_away(pipeline, rig):
    assert pipeline.post(body(rig)).status_code == 202
    pipeline.database.close()
    (pipeline.folder / "iot.db").rename(pipeline.folder / "away.db")
    assert pipeline.post(body(rig)).status_code == 202
    (pipeline.folder / "away.db").rename(pipeline.folder / "iot.db")


def test_packets_in_flight_are_answered_before_a_stop(pipeline, brokers):
    rig, edge = pipeline.register(), pipeline.start_edge()
    answers = []

    def post(number):
        with suppress(httpx.TransportError):  # refused at the door: nothing is promised
            answers.append(pipeline.post(body(rig, number)).status_code)

    with ThreadPoolExecutor(8) as pool:
        for number in range(300):
            pool.submit(post, number)
        wait_until(lambda: len(answers) > 100)
        edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(15) in (0, -signal.SIGTERM)
    assert set(answers) <= {202}
    assert 100 < len(answers) < 300
    assert len(records(brokers, pipeline.topic)) >= len(answers)


def test_a_stop_does_not_wait_for_a_sender_that_never_ends(pipeline):
    edge = pipeline.start_edge()
    with socket.create_connection(("127.0.0.1", pipeline.port)) as slow:
        slow.sendall(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        sleep(0.5)
        edge.process.send_signal(signal.SIGTERM)
        edge.process.wait(25)
