"""The edge while its broker is stopped, killed, too slow, or failing in another way."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from random import Random
from shutil import which
from time import monotonic, sleep
from uuid import uuid4

import httpx
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from bench.http_load import request, run_load
from contract.packet import decode
from contract.settings import child_environment
from ops.children import Children
from runtime.kafka import KafkaAccess
from runtime.topic import ensure_topic
from tests.servers import missing

from .conftest import Pipeline, wait_until
from .test_pipeline import records

_KAFKA = Path(__file__).parents[2] / ".ci" / "kafka"
_MIB = 2**20


class KafkaNode:
    """An Apache Kafka for a single test, which may stop and kill it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [which("bash") or "", str(_KAFKA), str(self._folder)], stdout=subprocess.PIPE, text=True
        )
        self.address = self._process.stdout.readline().strip()
        assert self.address, "Kafka did not start"

    def signal(self, number: int) -> None:
        os.kill(int((self._folder / "pid").read_text()), number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        self._process.terminate()
        self._end()

    def limit(self, bytes_per_s: int) -> None:
        """Limit the rate of each producer."""
        subprocess.run(
            [which("java") or "", "-cp", f"{self._folder}/libs/*", "kafka.admin.ConfigCommand",
             "--bootstrap-server", self.address, "--alter", "--entity-type", "clients",
             "--entity-default", "--add-config", f"producer_byte_rate={bytes_per_s}"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip

    def _end(self) -> None:
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture
def kafka(tmp_path, given_brokers):
    if given_brokers is None:
        pytest.skip(missing("a real Kafka"))
    if not (which("java") and which("mvn")):
        pytest.skip(missing("Java or Maven"))
    node = KafkaNode(tmp_path / "kafka")
    yield node
    node.stop()


@pytest.fixture
def own_broker(tmp_path):
    """An in-memory broker for a single test."""
    with Children(tmp_path) as children:
        broker = children.start("own-broker", "ops.broker", env=child_environment({}))
        yield broker.process.stdout.readline().strip(), broker.process
        broker.process.send_signal(signal.SIGCONT)


def pipeline_on(brokers, tmp_path):
    children = Children(tmp_path)
    return Pipeline(tmp_path, brokers, children, f"test.{uuid4().hex[:12]}"), children


def packets(rig, connection, size=5):
    """Packets whose ids contain connection and number."""
    random = Random(connection)
    for number in count():
        readings = [
            {"sensor_uuid": rig.sensors["pump"], "value": random.random()} for _ in range(size)
        ]
        packet_id = f"{connection}-{number}"
        body = {"device_uuid": rig.uuid, "packet_id": packet_id, "readings": readings}
        yield request("POST", "/ingest/packets", json.dumps(body).encode())


def ids(brokers, topic):
    return Counter(decode(message.value()).packet_id for message in records(brokers, topic))


def accepted(load):
    return [
        f"{answer.connection}-{answer.number}" for answer in load.answers if answer.status == 202
    ]


def memory(process, name="VmRSS"):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def test_accepted_readings_survive_a_stopped_and_a_killed_broker(kafka, tmp_path):
    pipeline, children = pipeline_on(kafka.address, tmp_path)
    with children:
        rig, edge = pipeline.register(), pipeline.start_edge()
        requests = lambda connection: packets(rig, connection)  # noqa: E731
        run_load(pipeline.port, lambda n: packets(rig, f"w{n}"), connections=64, seconds=1)
        before = memory(edge.process)

        def harm():
            sleep(3)
            kafka.signal(signal.SIGSTOP)
            sleep(5)
            kafka.signal(signal.SIGCONT)
            sleep(3)
            kafka.kill()
            kafka.start()

        with ThreadPoolExecutor(1) as pool:
            harmed = pool.submit(harm)
            load = run_load(pipeline.port, requests, connections=64, seconds=20, interval_s=0.05)
            harmed.result()
        assert edge.process.poll() is None
        assert memory(edge.process, "VmHWM") - before < 50 * _MIB
        assert set(load.statuses) <= {202, 503}
        assert load.statuses[202] > 1000
        counts = ids(kafka.address, pipeline.topic)
        assert {counts[packet_id] for packet_id in accepted(load)} == {1}
        assert max(counts.values()) == 1
        assert run_load(
            pipeline.port, lambda n: packets(rig, f"z{n}"), connections=4, seconds=1
        ).statuses.keys() == {202}
        print(f"{dict(load.statuses)}, {(memory(edge.process, 'VmHWM') - before) / _MIB:.1f} MiB")


def test_at_four_times_the_broker_rate_the_excess_is_refused_early_and_the_rest_is_stored(
    kafka, tmp_path
):
    kafka.limit(100_000)
    pipeline, children = pipeline_on(kafka.address, tmp_path)
    with children:
        rig = pipeline.register()
        pipeline.start_edge(MAX_PACKETS_IN_FLIGHT="200")
        size = 20
        for name in ("warm", "measured"):
            alone = run_load(
                pipeline.port,
                lambda n, name=name: packets(rig, f"{name}{n}", size),
                connections=64,
                seconds=4,
            )
        capacity = alone.statuses[202] / alone.elapsed_s
        connections = 800
        load = run_load(
            pipeline.port,
            lambda n: packets(rig, n, size),
            connections=connections,
            seconds=10,
            interval_s=connections / (4 * capacity),
        )
        refused, stored = load.percentile_ms(50, 503), load.percentile_ms(50, 202)
        print(f"takes {capacity:.0f}/s, offered {load.rate:.0f}/s: {dict(load.statuses)}, ")
        print(f"503 within {refused:.0f} ms, 202 within {stored:.0f} ms, half of each")
        assert load.rate > 2 * capacity
        assert set(load.statuses) == {202, 503}
        assert refused < stored
        assert load.statuses[202] > 0.5 * capacity * 10
        counts = ids(kafka.address, pipeline.topic)
        assert {counts[packet_id] for packet_id in accepted(load)} == {1}


def test_a_stopped_broker_is_reported_in_time_and_immediately_above_the_limit(own_broker, tmp_path):
    address, broker = own_broker
    pipeline, children = pipeline_on(address, tmp_path)
    with children:
        rig = pipeline.register()
        pipeline.start_edge(MAX_PACKETS_IN_FLIGHT="10")

        def post(number):
            body = {
                "device_uuid": rig.uuid,
                "readings": [{"sensor_uuid": rig.sensors["pump"], "value": number}],
            }
            start = monotonic()
            answer = pipeline.post(body)
            return answer, monotonic() - start

        assert post(0)[0].status_code == 202
        assert httpx.get(f"{pipeline.url}/health/ready").status_code == 200
        assert "iot_edge_broker_up 1.0" in httpx.get(f"{pipeline.url}/metrics").text
        broker.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(31) as pool:
            asked = [pool.submit(post, number) for number in range(30)]
            sleep(1)
            ready = pool.submit(httpx.get, f"{pipeline.url}/health/ready", timeout=60).result()
            live = httpx.get(f"{pipeline.url}/health/live", timeout=60)
            told = pool.submit(httpx.get, f"{pipeline.url}/metrics", timeout=60).result()
            answers = [future.result() for future in asked]
        assert "iot_edge_broker_up 0.0" in told.text
        assert (ready.status_code, live.status_code) == (503, 200)
        assert ready.headers["content-type"] == "application/problem+json"
        assert {answer.status_code for answer, _ in answers} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer, _ in answers)
        times = sorted(took for _, took in answers)
        assert 2 * times[19] < times[20]  # ten have waited for the broker, and no other for them
        broker.send_signal(signal.SIGCONT)
        wait_until(lambda: post(1)[0].status_code == 202)


def test_a_kafka_client_with_a_fatal_error_is_replaced(own_broker, tmp_path):
    code = f"""
import asyncio, ctypes, glob, confluent_kafka
from pathlib import Path
from contract.packet import Packet
from contract.errors import UnavailableError
from ingest_edge.publish import Publisher
from runtime.kafka import KafkaAccess

packet = Packet(packet_id="a", device_id=1, device_uuid="d", received_at=1, sensor_id=[1],
                ts=[1], device_ts=None, value=[1.0], seq=[0])

async def main():
    publisher = Publisher(KafkaAccess({own_broker[0]!r}), "fatal", 10, 1_000_000)
    await publisher.publish(packet)
    place = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    library = ctypes.CDLL(glob.glob(str(place / "librdkafka*"))[0])
    client = ctypes.c_void_p.from_address(id(publisher._producer) + object.__basicsize__)
    library.rd_kafka_test_fatal_error.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    library.rd_kafka_test_fatal_error(client, 47, b"as if fenced")
    answers = []
    for _ in range(3):
        try:
            await publisher.publish(packet)
            answers.append("stored")
        except UnavailableError as error:
            answers.append("away")
    publisher.close()
    print(answers)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines()[-1] == "['away', 'stored', 'stored']", done.stderr
    assert "Kafka client replaced" in done.stdout


def test_only_a_packet_that_the_topic_never_accepts_is_refused_permanently(pipeline, given_brokers):
    if given_brokers is None:
        pytest.skip("the broker must be a real one: set KAFKA_BOOTSTRAP_SERVERS")
    admin = AdminClient({"bootstrap.servers": given_brokers})

    def limit(size):
        resource = ConfigResource(ConfigResource.Type.TOPIC, pipeline.topic)
        entry = ConfigEntry(
            "max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET
        )
        resource.add_incremental_config(entry)
        admin.incremental_alter_configs([resource])[resource].result(10)

    ensure_topic(KafkaAccess(given_brokers), pipeline.topic, {"max.message.bytes": "3000"})
    rig = pipeline.register()
    pipeline.start_edge()

    def packet(readings):
        # values that do not compress
        values = [Random(n).random() for n in range(readings)]
        return {
            "device_uuid": rig.uuid,
            "readings": [{"sensor_uuid": rig.sensors["pump"], "value": value} for value in values],
        }

    def statuses():
        with ThreadPoolExecutor(20) as pool:
            answers = pool.map(pipeline.post, [packet(1), packet(1000), packet(1)] * 20)
            return Counter(answer.status_code for answer in answers)

    large = pipeline.post(packet(1000))
    assert (large.status_code, large.json()["reason"]) == (413, "too_large")
    assert "the topic accepts 3000" in large.json()["detail"]
    assert statuses() == {202: 40, 413: 20}
    limit(1000)  # the edge learns the limit from the first refusal, and uses smaller batches
    wait_until(lambda: "accepts 1000" in pipeline.post(packet(1000)).text)
    assert statuses() == {202: 40, 413: 20}
    limit(100_000)
    wait_until(lambda: pipeline.post(packet(1000)).status_code == 202)
