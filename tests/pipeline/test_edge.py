import gzip
import json
import shlex
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from shutil import which
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


def test_each_kind_of_request_gets_its_response(pipeline, rig, brokers):
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


def test_clients_of_the_old_system_get_the_same_responses_as_before(pipeline, rig):
    ids = dict(pipeline.rows("SELECT name, id FROM sensors"))
    response = pipeline.post({"sensor_id": ids["boiler"], "value": 23.5}, "/ingest/readings")
    readings = [
        {"sensor_id": number, "value": 1, "timestamp": "2024-11-24T10:00:00Z"}
        for number in ids.values()
    ]
    bulk = pipeline.post({"readings": readings}, "/ingest/readings/bulk")
    health = httpx.get(f"{pipeline.url}/health")
    assert (response.status_code, response.json()) == (200, {"inserted": 1})
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


def test_a_configured_key_is_required(pipeline):
    rig = pipeline.register()
    pipeline.start_edge(INGEST_API_KEY="t0ken")
    assert pipeline.post(body(rig)).status_code == 401
    assert pipeline.post(body(rig), **{"X-API-Key": "other"}).status_code == 401
    assert "t0ken" not in (pipeline.folder / "edge.log").read_text()
    assert httpx.get(f"{pipeline.url}/health").json() == {"status": "ok", "auth": "api-key"}


def test_the_correct_key_is_accepted(pipeline):
    rig = pipeline.register()
    pipeline.start_edge(INGEST_API_KEY="t0ken")
    assert pipeline.post(body(rig), **{"X-API-Key": "t0ken"}).status_code == 202


def test_an_unknown_device_is_accepted_soon_after_it_is_created(pipeline, rig):
    late = {
        "device_uuid": str(UUID(int=5)),
        "readings": [{"sensor_uuid": str(UUID(int=6)), "value": 1}],
    }
    assert pipeline.post(late).status_code == 404
    pipeline.database.execute("add_device", late["device_uuid"], "late", "gateway")
    sensor = late["readings"][0]["sensor_uuid"]
    pipeline.database.execute("add_sensor", late["device_uuid"], sensor, "other", "x", "")
    wait_until(lambda: pipeline.post(late).status_code == 202)


def test_an_inactive_sensor_counts_as_unknown(pipeline, rig):
    pipeline.rows("UPDATE sensors SET is_active = 0 WHERE name = 'pump'")
    assert pipeline.post(body(rig)).status_code == 422


def test_known_devices_keep_posting_while_the_database_is_unavailable(pipeline):
    rig = pipeline.register()
    pipeline.start_edge(SENSOR_MAP_TTL_SECONDS="0.2")
    assert pipeline.post(body(rig)).status_code == 202
    pipeline.rows("ALTER TABLE devices RENAME TO away")
    sleep(0.3)
    assert pipeline.post(body(rig)).status_code == 202
    assert pipeline.post(body(rig) | {"device_uuid": str(uuid4())}).status_code in (500, 503)
    assert httpx.get(f"{pipeline.url}/health/ready").json()["database"] == "away"
    told = (pipeline.folder / "edge.log").read_text()
    assert "database unavailable" in told


def test_packets_in_flight_are_answered_before_a_stop(pipeline, brokers):
    rig, edge = pipeline.register(), pipeline.start_edge()
    answers = []

    def post(number):
        with suppress(httpx.TransportError):  # refused at the door: nothing is promised
            while True:
                answers.append(pipeline.post(body(rig, number)).status_code)

    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(post, number)
        wait_until(lambda: len(answers) > 100)
        edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(120) in (0, -signal.SIGTERM)
    assert set(answers) <= {202}
    assert len(records(brokers, pipeline.topic)) >= len(answers)


def test_a_stop_does_not_wait_for_a_sender_that_never_ends(pipeline):
    edge = pipeline.start_edge()
    with socket.create_connection(("127.0.0.1", pipeline.port)) as slow:
        slow.sendall(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        sleep(0.5)
        edge.process.send_signal(signal.SIGTERM)
        edge.process.wait(120)


def test_gzip_bodies_are_accepted(pipeline, rig, brokers):
    packed = gzip.compress(json.dumps(body(rig)).encode())
    headers = {"Content-Encoding": "gzip"}
    answer = httpx.post(f"{pipeline.url}/ingest/packets", content=packed, headers=headers)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


def test_a_device_key_is_valid_for_its_device_only_on_every_path(pipeline):
    rig, other = pipeline.register(), pipeline.register("other", SensorSpec("x", "other", ""))
    key = pipeline.iot("devices", "new-key", "rig").stdout.strip()
    pipeline.start_edge(INGEST_API_KEY="t0ken")
    ids = dict(pipeline.rows("SELECT name, id FROM sensors"))
    header = {"X-Device-Key": key}
    theirs = {
        "device_uuid": other.uuid,
        "readings": [{"sensor_uuid": other.sensors["x"], "value": 1}],
    }
    both = {"readings": [{"sensor_id": ids[name], "value": 1} for name in ("pump", "x")]}
    answers = {
        "own": pipeline.post(body(rig), **header),
        "no key": pipeline.post(body(rig)),
        "another's": pipeline.post(theirs, **header),
        "unknown": pipeline.post(body(rig) | {"device_uuid": str(uuid4())}, **header),
        "legacy, own": pipeline.post(both["readings"][0], "/ingest/readings", **header),
        "legacy, another's": pipeline.post(both["readings"][1], "/ingest/readings", **header),
        "legacy, both": pipeline.post(both, "/ingest/readings/bulk", **header),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "own": 202, "no key": 401, "another's": 403, "unknown": 404,
        "legacy, own": 200, "legacy, another's": 403, "legacy, both": 403,
    }  # fmt: skip


def test_a_device_that_sends_too_often_is_refused_before_its_body_is_parsed(pipeline):
    rig = pipeline.register()
    key = pipeline.iot("devices", "new-key", "rig").stdout.strip()
    pipeline.start_edge(DEVICE_PACKETS_PER_SECOND="0.01")
    header = {"X-Device-Key": key}
    url = f"{pipeline.url}/ingest/packets"
    first = httpx.post(url, content=b"{", headers=header)
    again = httpx.post(url, content=b"{", headers=header)
    assert (first.status_code, again.status_code) == (422, 429)
    assert int(again.headers["retry-after"]) > 1
    # without a key of its own the device is known from the body only
    assert httpx.post(url, content=b"{").status_code == 422
    assert pipeline.post(body(rig)).status_code == 429


def test_the_success_status_may_be_200_and_the_old_paths_do_not_change(pipeline):
    rig = pipeline.register()
    pipeline.start_edge(INGEST_SUCCESS_STATUS="200")
    ids = dict(pipeline.rows("SELECT name, id FROM sensors"))
    old = pipeline.post({"sensor_id": ids["boiler"], "value": 23.5}, "/ingest/readings")
    assert pipeline.post(body(rig)).status_code == old.status_code == 200
    checked = pipeline.iot("check-edge", pipeline.url)
    assert "a good packet" in checked.stdout
    metrics = httpx.get(f"{pipeline.url}/metrics").text
    assert 'iot_edge_requests_total{path="/ingest/packets",status="200"} ' in metrics


def test_warnings_name_probable_mistakes_and_rejected_times_are_counted(pipeline, rig):
    plain = pipeline.post(body(rig, ts=1e9)).json()
    assert "warnings" not in plain
    odd = body(rig, ts=5, packetId="x")
    odd["readings"].append({"sensor_uuid": str(uuid4()), "value": 1})
    warnings = pipeline.post(odd).json()["warnings"]
    assert [warning.split(":")[0] for warning in warnings] == [
        "a field that looks like packet_id was ignored; name it packet_id", "readings[0]",
        "1 reading was ignored",
    ]  # fmt: skip
    legacy = {"sensor_id": 1, "value": 1, "timestamp": "1970-01-01T00:00:05Z"}
    answer = pipeline.post(legacy, "/ingest/readings").json()
    assert (answer["inserted"], len(answer["warnings"])) == (1, 1)
    metrics = httpx.get(f"{pipeline.url}/metrics").text
    assert "iot_edge_readings_clock_skewed_total 2.0" in metrics


def test_a_revoked_key_stops_within_the_ttl(pipeline):
    rig = pipeline.register()
    key = pipeline.iot("devices", "new-key", "rig").stdout.strip()
    pipeline.start_edge(SENSOR_MAP_TTL_SECONDS="1")
    assert pipeline.post(body(rig), **{"X-Device-Key": key}).status_code == 202
    assert pipeline.iot("devices", "revoke-keys", "rig").returncode == 0
    wait_until(lambda: pipeline.post(body(rig), **{"X-Device-Key": key}).status_code == 401, 5)


def test_keys_and_values_are_never_repeated(pipeline):
    rig = pipeline.register()
    key = pipeline.iot("devices", "new-key", "rig").stdout.strip()
    pipeline.start_edge(INGEST_API_KEY="t0ken")
    secret = {"X-Device-Key": f"wr0ng{key}"}
    said = [
        pipeline.post(body(rig), **{"X-Device-Key": key}),
        pipeline.post(body(rig), **{"X-API-Key": "t0ken"}),
        pipeline.post(body(rig), **secret),
        pipeline.post(body(rig, "much-t0ken"), **{"X-API-Key": "t0ken"}),
        pipeline.post(body(rig), **{"X-API-Key": "wr0ng"}),
        pipeline.post(body(rig), "/ingest/t0ken", **{"X-API-Key": "t0ken"}),
        httpx.get(f"{pipeline.url}/metrics"),
        httpx.get(f"{pipeline.url}/health"),
        httpx.get(f"{pipeline.url}/health/ready"),
        httpx.get(f"{pipeline.url}/openapi.json"),
    ]
    assert [answer.status_code for answer in said[:5]] == [202, 202, 401, 422, 401]
    told = "".join(answer.text + str(answer.headers) for answer in said)
    told += (pipeline.folder / "edge.log").read_text()
    for word in (key, "t0ken", "wr0ng", "much"):
        assert word not in told


def test_each_refusal_is_one_log_line_with_the_id_in_the_response(pipeline, rig):
    refused = pipeline.post(body(rig, "x"))
    own = pipeline.post(body(rig, "x"), **{"X-Request-Id": "boiler-7"})
    evil = pipeline.post(body(rig, "x"), **{"X-Request-Id": 'a"} {"b'})
    lines = {line["request"]: line for line in pipeline.log("edge") if line["event"] == "refused"}
    first = refused.headers["x-request-id"]
    assert refused.json()["instance"] == f"urn:request:{first}"
    assert set(lines) == {first, "boiler-7", evil.headers["x-request-id"]}
    assert own.headers["x-request-id"] == "boiler-7"
    assert lines[first]["status"] == 422
    assert lines[first]["reason"] == refused.json()["reason"] == "invalid"
    assert all(
        line.startswith("{") for line in (pipeline.folder / "edge.log").read_text().splitlines()
    )


def test_a_flood_of_refusals_does_not_flood_the_log(pipeline, rig):
    with httpx.Client(base_url=pipeline.url) as client:
        for _ in range(300):
            assert client.post("/ingest/packets", content=b"x").status_code == 422
        sleep(1.1)
        client.post("/ingest/packets", content=b"x")
    lines = [line for line in pipeline.log("edge") if line["event"] == "refused"]
    assert len(lines) < 150
    assert len(lines) + sum(line.get("not_logged_before", 0) for line in lines) == 301


def test_traceparent_is_passed_on_as_a_header_of_the_record(pipeline, rig, brokers):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert pipeline.post(body(rig), traceparent=trace).status_code == 202
    assert pipeline.post(body(rig), traceparent=f"{trace}-x").status_code == 202
    assert pipeline.post(body(rig)).status_code == 202
    headers = [message.headers() for message in records(brokers, pipeline.topic)]
    assert headers == [[("traceparent", trace.encode())], None, None]


def test_a_device_that_sends_too_often_gets_retry_after(pipeline):
    rig, other = pipeline.register(), pipeline.register("other", SensorSpec("x", "other", ""))
    pipeline.start_edge(DEVICE_PACKETS_PER_SECOND="0.5")
    answers = [pipeline.post(body(rig)) for _ in range(7)]
    assert [answer.status_code for answer in answers[:6]] == [202] * 5 + [429]
    assert 1 <= int(answers[5].headers["retry-after"]) <= 2
    theirs = {
        "device_uuid": other.uuid,
        "readings": [{"sensor_uuid": other.sensors["x"], "value": 1}],
    }
    assert pipeline.post(theirs).status_code == 202
    ids = dict(pipeline.rows("SELECT name, id FROM sensors"))
    legacy = {"sensor_id": ids["pump"], "value": 1}
    assert pipeline.post(legacy, "/ingest/readings").status_code == 429


def test_responses_are_counted(pipeline, rig):
    unknown = {"sensor_uuid": str(uuid4()), "value": 1}
    both = body(rig, ts="2100-01-01T00:00:00Z")
    both["readings"].append(unknown)
    assert pipeline.post(both).status_code == 202
    assert pipeline.post(body(rig, "x")).status_code == 422
    assert pipeline.post(body(rig, 1e10)).status_code == 422
    assert pipeline.post(body(rig, 1) | {"device_uuid": str(uuid4())}).status_code == 404
    samples = {}
    for line in httpx.get(f"{pipeline.url}/metrics").text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            samples[name.removeprefix("iot_edge_")] = float(value)
    packets = 'requests_total{path="/ingest/packets",status='
    assert samples[f'{packets}"202"}}'] == 1
    assert samples[f'{packets}"422"}}'] == 2
    assert samples[f'{packets}"404"}}'] == 1
    assert samples["readings_accepted_total"] == 1
    assert samples["readings_clock_skewed_total"] == 1
    assert samples["broker_up"] == 1
    assert samples['readings_refused_total{reason="unknown_sensor"}'] == 1
    assert samples['readings_refused_total{reason="unknown_device"}'] == 1
    assert samples['readings_refused_total{reason="invalid"}'] == 1  # one body could not be read
    assert samples["acknowledgement_seconds_count"] == 1
    assert samples["packets_in_flight"] == samples["queue_fill_ratio"] == 0
    assert samples['directory_lookups_total{result="miss"}'] == 2
    assert samples["process_resident_memory_bytes"] > 2**20


SEED = (
    """
curl -X POST http://localhost:8001/ingest/packets \\
  -H "Content-Type: application/json" \\
  -H "X-API-Key: <TU_API_KEY>" \\
  -d '{
    "device_uuid": "00000000-0000-0000-0000-000000000001",
    "readings": [
      {"sensor_uuid": "00000000-0000-0000-0000-000000000101", "value": 23.5},
      {"sensor_uuid": "00000000-0000-0000-0000-000000000102", "value": 48.1}
    ]
  }'
""",
    """
curl -X POST http://localhost:8001/ingest/readings \\
  -H "Content-Type: application/json" \\
  -d '{"sensor_id": 1, "value": 23.5}'
""",
)
"""The examples of the README of the system that this one replaces, to the letter."""


@pytest.mark.skipif(not which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("key", [None, "<TU_API_KEY>"])
def test_the_commands_of_the_old_readme_still_work(pipeline, key):
    device = str(UUID(int=1))
    pipeline.database.execute("add_device", device, "seed", "gateway")
    for number in (0x101, 0x102):
        uuid = str(UUID(int=number))
        pipeline.database.execute("add_sensor", device, uuid, "other", uuid, "")
    pipeline.start_edge(**({"INGEST_API_KEY": key} if key else {}))
    pipeline.start_flow()
    answers = []
    for command in SEED:
        words = shlex.split(command.replace("\\\n", " ").replace(":8001", f":{pipeline.port}"))
        words += ["--silent", "--write-out", "\n%{http_code}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        text, _, status = done.stdout.rpartition("\n")
        answers.append((int(status), json.loads(text)))
    (first, packet), (second, reading) = answers
    assert first == 202
    assert (packet["inserted"], packet["unknown_sensors"]) == (2, [])
    if key:  # the second of them never had one
        assert second == 401
        assert "X-API-Key" in reading["detail"]
    else:
        assert (second, reading) == (200, {"inserted": 1})
    pipeline.wait_stored(2 if key else 3)
    assert {row[1] for row in pipeline.readings()} == {23.5, 48.1}


def test_check_edge_accepts_correct_responses_and_reports_wrong_ones(pipeline):
    pipeline.start_edge()
    right = pipeline.iot("check-edge", pipeline.url)
    assert (right.returncode, right.stderr) == (0, "")
    assert "all 23 responses are correct" in right.stdout
    wrong = pipeline.iot(
        "check-edge", pipeline.url, "--device", str(uuid4()), "--sensor", str(uuid4())
    )
    assert wrong.returncode == 1
    assert "responses are wrong" in wrong.stderr
    assert "FAIL" in wrong.stdout
    nobody = pipeline.iot("check-edge", "http://127.0.0.1:1")
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("iot: no edge answers at http://127.0.0.1:1")


def talk(pipeline, *pieces, pause=0.3, end=False):
    """Everything that comes back on one connection for those bytes, until the edge hangs up."""
    got = b""
    with socket.create_connection(("127.0.0.1", pipeline.port), 5) as peer:
        for piece in pieces:
            peer.sendall(piece)
            sleep(pause)
        if end:
            peer.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError, ConnectionResetError):
            while more := peer.recv(65536):
                got += more
    return got


def raw(content, *headers):
    head = f"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    return (head + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode() + content


def test_invalid_http_is_answered_with_a_problem_and_counted_without_flooding_the_log(
    pipeline, rig
):
    for content, status in (
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000, b"431"),
        (b"GET /health HTTP/1.1\r\n" + b"a:\r\n" * 20_000, b"431"),
    ):
        answer = talk(pipeline, content)
        assert answer.startswith(b"HTTP/1.1 " + status), answer
        assert b"application/problem+json" in answer
    for _ in range(50):
        talk(pipeline, b"GARBAGE\r\n\r\n", pause=0)
    assert (
        'requests_total{path="other",status="400"} 51' in httpx.get(f"{pipeline.url}/metrics").text
    )
    assert len((pipeline.folder / "edge.log").read_text().splitlines()) < 60


def test_a_response_belongs_to_its_request_whatever_follows_on_the_connection(pipeline, rig):
    good = raw(json.dumps(body(rig)).encode())
    for follows in (b"GARBAGE\r\n\r\n", good[:-1] + b"]" + b"GARBAGE\r\n\r\n"):
        assert talk(pipeline, good + follows, pause=0).startswith(b"HTTP/1.1 202")


def test_a_sender_that_has_closed_its_side_still_gets_a_response(pipeline, rig):
    good = raw(json.dumps(body(rig)).encode())
    assert talk(pipeline, good, pause=0, end=True).startswith(b"HTTP/1.1 202")


def test_an_offered_upgrade_is_ignored(pipeline, rig):
    good = raw(
        json.dumps(body(rig)).encode(),
        "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk",
    )  # fmt: skip
    assert talk(pipeline, good).startswith(b"HTTP/1.1 202")
    cut = good.index(b"\r\n\r\n") + 20
    assert talk(pipeline, good[:cut], good[cut:]).startswith(b"HTTP/1.1 202")


def test_bulk_of_several_devices_is_refused_before_any_of_it_is_stored(pipeline, brokers):
    pipeline.register()
    pipeline.register("other", SensorSpec("x", "other", ""))
    pipeline.start_edge(DEVICE_PACKETS_PER_SECOND="0.01", MAX_PACKETS_IN_FLIGHT="1")
    ids = dict(pipeline.rows("SELECT name, id FROM sensors"))
    both = {"readings": [{"sensor_id": ids[name], "value": 1} for name in ("pump", "x")]}
    assert pipeline.post(both, "/ingest/readings/bulk").status_code == 200
    assert pipeline.post(both, "/ingest/readings/bulk").status_code == 429
    single = {"sensor_id": ids["boiler"], "value": 1}
    assert pipeline.post(single, "/ingest/readings").status_code == 429
    assert len(records(brokers, pipeline.topic)) == 2


def test_an_internal_error_and_a_stop_reveal_no_key_and_no_payload(pipeline):
    rig = pipeline.register()
    edge = pipeline.start_edge(INGEST_API_KEY="t0ken")
    pipeline.rows("ALTER TABLE sensors RENAME TO away")
    answer = pipeline.post(body(rig), **{"X-API-Key": "t0ken", "X-Request-Id": "s3cret-free"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    with socket.create_connection(("127.0.0.1", pipeline.port)) as slow:
        slow.sendall(
            b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nX-API-Key: t0ken\r\n"
            b"Content-Length: 100\r\n\r\n{payl0ad"
        )
        sleep(0.5)
        edge.process.send_signal(signal.SIGTERM)
        slow.settimeout(120)
        last = slow.recv(65536)
        edge.process.wait(120)
    assert last.startswith(b"HTTP/1.1 503")
    assert b"application/problem+json" in last
    told = (pipeline.folder / "edge.log").read_text()
    assert "request failed" in told
    assert "Exception in ASGI" not in told
    assert "t0ken" not in told
    assert "payl0ad" not in told
    assert rig.uuid not in told


def test_a_sensor_that_cannot_be_looked_up_is_not_reported_as_unknown(pipeline):
    rig = pipeline.register()
    pipeline.start_edge(SENSOR_MAP_TTL_SECONDS="0.2")
    never = body(rig)
    never["readings"].append({"sensor_uuid": str(uuid4()), "value": 1})
    assert len(pipeline.post(never).json()["unknown_sensors"]) == 1
    pipeline.rows("ALTER TABLE devices RENAME TO away")
    sleep(0.3)
    new = body(rig)
    new["readings"].append({"sensor_uuid": str(uuid4()), "value": 1})
    pipeline.post(new)  # the first to find the database broken may be told so: 500
    assert pipeline.post(new).status_code == 503
    assert pipeline.post(never).status_code == 202
