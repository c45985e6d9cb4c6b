"""The edge against hostile senders."""

import gzip
import json
import random
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from time import monotonic
from uuid import UUID, uuid4

import pytest

from contract.settings import child_environment
from ingest_edge.parser import SMALL
from tests.looplag import measure

from .test_edge_faults import memory
from .test_pipeline import records

_MIB = 2**20
_CASES = 2000


@pytest.fixture
def seed(pipeline):
    """The device of the examples in the OpenAPI document."""
    device, sensor = (str(UUID(int=number)) for number in (0x1, 0x101))
    pipeline.database.execute("add_device", device, "seed", "gateway")
    pipeline.database.execute("add_sensor", device, sensor, "temperature", "t", "°C")
    return device, sensor


def test_the_openapi_document_matches_the_responses(pipeline, seed):
    pipeline.start_edge()
    finished = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{pipeline.url}/openapi.json",
         "--checks", "all", "--max-examples", "200",
         # a valid packet may still name unknown sensors: 422
         "--exclude-checks", "positive_data_acceptance", "--seed", "1", "--no-color",
         "--generation-database", "none"],
        cwd=pipeline.folder, env=child_environment({}),
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]


def post(pipeline, body: bytes, *headers: str, chunks=False, path="/ingest/packets"):
    """Status and content type of the response, over a plain socket: no client fixes the request."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += "".join(f"{header}\r\n" for header in headers)
    head += "Transfer-Encoding: chunked\r\n" if chunks else f"Content-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", pipeline.port), 120) as sender:
        sender.sendall(head.encode() + b"\r\n")
        with suppress(OSError):  # it may be refused before its end
            sender.sendall(body)
        return answer(sender)


def answer(sender):
    got = b""
    while b"\r\n\r\n" not in got or not got.split(b"\r\n\r\n", 1)[1]:
        piece = sender.recv(65536)
        if not piece:
            break
        got += piece
    assert got.startswith(b"HTTP/1.1 "), got[:80]
    return int(got[9:12]), b"content-type: application/problem+json" in got


def hostile(device, sensor, seed=1):
    """Endless (name, body, headers): invalid packets of a known device."""
    rnd = random.Random(seed)
    good = {"device_uuid": device, "readings": [{"sensor_uuid": sensor, "value": 1.5}]}
    text = json.dumps(good)
    plain = text.encode()
    zipped = ("Content-Encoding: gzip",)
    bomb = gzip.compress(b"[" * 200 * _MIB, 9)
    spaces = gzip.compress(plain + b" " * 20 * _MIB, 9)
    value = "1.5"
    digits = gzip.compress(text.replace(value, "1" * 8_000_000).encode(), 1)

    def replaced(by):
        return text.replace(value, by).encode("utf-8", "surrogatepass")

    makers = [
        lambda: ("bomb", bomb, zipped),
        lambda: ("spaces", spaces, zipped),
        lambda: ("bomb cut off", bomb[: rnd.randrange(1, len(bomb))], zipped),
        lambda: ("gzip cut off", gzip.compress(plain)[: rnd.randrange(0, 60)], zipped),
        lambda: ("gzip broken", flipped(gzip.compress(plain), rnd), zipped),
        lambda: ("bomb in a bomb", gzip.compress(bomb), zipped),
        lambda: ("not gzip", plain, zipped),
        lambda: ("gzip, not said", gzip.compress(plain), ()),
        lambda: ("encoding", plain, (f"Content-Encoding: {rnd.choice(['br', 'x', 'gzip,gzip'])}",)),
        lambda: ("nesting", nested(rnd), ()),
        lambda: ("nesting in a packet", replaced(nested(rnd).decode()), ()),
        lambda: ("number", replaced("9" * rnd.randrange(400, 1_000_000)), ()),
        lambda: ("number inflated", digits, zipped),
        lambda: ("exponent", replaced("1e" + "9" * rnd.randrange(3, 5000)), ()),
        lambda: (
            "no number",
            replaced(rnd.choice(["NaN", "Infinity", "-Infinity", "nan", "+1"])),
            (),
        ),
        lambda: (
            "large number",
            replaced(rnd.choice(["1e10", "-1e10", "1e308", "9999999999.999999"])),
            (),
        ),
        lambda: ("kind", replaced(rnd.choice(["null", "true", '"1"', "[]", "{}", "[1]"])), ()),
        lambda: ("many readings", many(good, rnd.randrange(1001, 9000)), ()),
        lambda: ("no readings", json.dumps(good | {"readings": []}).encode(), ()),
        lambda: ("name twice", text.replace('"value"', '"value": 1, "value"').encode(), ()),
        lambda: (
            "device twice",
            text.replace("{", f'{{"device_uuid": "{uuid4()}", ', 1).encode(),
            (),
        ),
        lambda: (
            "name twice, escaped",
            text.replace('"value"', '"value": 1, "\\u0076alue"').encode(),
            (),
        ),
        lambda: ("lone surrogate", text.replace(sensor, "\\ud800").encode(), ()),
        lambda: ("surrogate as UTF-8", replaced('"\ud800"'), ()),
        lambda: ("surrogate id", json.dumps(good | {"packet_id": "\udfff"}).encode(), ()),
        lambda: ("not UTF-8", plain.replace(b"device", bytes([rnd.randrange(128, 256)])), ()),
        lambda: ("other encoding", text.encode(rnd.choice(["utf-16", "utf-32", "utf-7"]))[1:], ()),
        lambda: ("byte order", b"\xef\xbb\xbf" + plain, ()),
        lambda: ("cut off", plain[: rnd.randrange(0, len(plain))], ()),
        lambda: ("more behind", plain + rnd.choice([b"}", b"x", b"\0", plain]), ()),
        lambda: ("noise", rnd.randbytes(rnd.randrange(0, 3000)), ()),
        lambda: ("long uuid", text.replace(sensor, "a" * rnd.randrange(37, 500_000)).encode(), ()),
        lambda: (
            "long id",
            json.dumps(good | {"packet_id": "x" * rnd.randrange(201, 9000)}).encode(),
            (),
        ),
        lambda: (
            "time",
            json.dumps(
                good
                | {
                    "ts": rnd.choice(
                        ["", "x" * 99999, -1e11, 1e300, "9999-12-31T23:59:59Z", [], {}, True]
                    )
                }
            ).encode(),
            (),
        ),
        lambda: ("large", plain + b" " * rnd.randrange(_MIB, 3 * _MIB), ()),
        lambda: ("zeros", b"\0" * rnd.randrange(1, _MIB), ()),
        lambda: ("unknown device", json.dumps(good | {"device_uuid": str(uuid4())}).encode(), ()),
        lambda: ("wrong device key", plain, (f"X-Device-Key: {rnd.randbytes(9).hex()}",)),
    ]
    while True:
        yield rnd.choice(makers)()


def flipped(content, rnd):
    """Flip one byte of the header, of the compressed data or of the checksum."""
    place = rnd.choice([0, 1, 2, *range(12, len(content))])
    return content[:place] + bytes([content[place] ^ rnd.randrange(1, 256)]) + content[place + 1 :]


def nested(rnd):
    opening = rnd.choice(["[", '{"a":', '{"value":', '[{"readings":'])
    return (opening * rnd.choice([100, 2000, 100_000])).encode()


def many(good, count):
    return json.dumps(good | {"readings": good["readings"] * count}).encode()


def endless(pipeline, seconds=120.0):
    """Send chunks until the edge closes the connection."""
    with socket.create_connection(("127.0.0.1", pipeline.port), 120) as sender:
        sender.sendall(
            b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        end, sent = monotonic() + seconds, 0
        try:
            while monotonic() < end:
                sender.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass  # the edge closed the connection
        assert monotonic() < end, f"the edge accepted {sent} bytes"


def slow(pipeline, opening):
    """Send a byte per second. Return the response and the time it took."""
    start = monotonic()
    with socket.create_connection(("127.0.0.1", pipeline.port), 120) as sender:
        sender.sendall(opening)
        sender.settimeout(1)
        while True:
            try:
                return *answer(sender), monotonic() - start
            except TimeoutError:
                assert monotonic() < start + 120, "the connection was not closed"
                sender.sendall(b"a")


def test_hostile_bodies_end_with_4xx_in_bounded_time_and_memory(pipeline, seed, brokers):
    edge = pipeline.start_edge()
    good = json.dumps({"device_uuid": seed[0], "readings": [{"sensor_uuid": seed[1], "value": 1}]})
    assert post(pipeline, good.encode())[0] == 202
    before = memory(edge.process)
    body = b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"
    with ThreadPoolExecutor(40) as pool:
        slow_ones = [pool.submit(slow, pipeline, body) for _ in range(8)]
        slow_ones += [
            pool.submit(slow, pipeline, b"POST /ingest/packets HTTP/1.1\r\nX-") for _ in range(8)
        ]
        without_end = [pool.submit(endless, pipeline) for _ in range(4)]

        def send(case):
            what, content, headers = case
            start = monotonic()
            status, is_problem = post(pipeline, content, *headers)
            return what, status, is_problem, monotonic() - start

        cases = islice(hostile(*seed), _CASES)
        with ThreadPoolExecutor(4) as few:
            answers = list(few.map(send, cases))
        for each in without_end:
            each.result()
        slow_answers = [each.result() for each in slow_ones]
    wrong = [answer for answer in answers if not (400 <= answer[1] < 500 and answer[2])]
    assert not wrong
    assert len(answers) == _CASES
    slowest, given_up = (
        max(answer[3] for answer in answers),
        max(answer[2] for answer in slow_answers),
    )
    grown = (memory(edge.process, "VmHWM") - before) / _MIB
    print({answer[0]: answer[1] for answer in answers})
    print(f"slowest {slowest:.2f} s, slow senders {given_up:.0f} s, {grown:.0f} MiB more at most")
    assert {(status, is_problem) for status, is_problem, _ in slow_answers} == {(408, True)}
    assert slowest < given_up, "a body that is there takes less time than one that does not come"
    assert grown < 150
    assert edge.process.poll() is None
    assert post(pipeline, good.encode())[0] == 202
    assert len(records(brokers, pipeline.topic)) == 2


def test_no_body_costs_the_event_loop_more_than_5_ms(pipeline, seed):
    """CPU time of the loop's thread, so that a busy machine does not change it."""
    pipeline.start_edge(module=("tests.looplag", "ingest_edge.api", "ingest_edge.refusals"))
    device, sensor = seed
    for number in range(999):
        uuid = str(UUID(int=0x1000 + number))
        pipeline.database.execute("add_sensor", device, uuid, "temperature", f"t{number}", "°C")
    known = [sensor, *(str(UUID(int=0x1000 + number)) for number in range(999))]
    dated = [
        {"sensor_uuid": uuid, "value": 1.5, "ts": f"2026-01-31T12:00:00.{number:03}+01:00"}
        for number, uuid in enumerate(known)
    ]
    packet = {"device_uuid": device, "readings": dated}
    text = json.dumps(packet).encode()
    small = json.dumps(packet | {"readings": dated[:1]}).encode()
    unknown = [dict(reading, sensor_uuid=str(uuid4())) for reading in dated]
    zipped = ("Content-Encoding: gzip",)
    most = SMALL - len(small) - 20
    legacy = {"readings": [{"sensor_id": 1, "value": n, "timestamp": 1e9} for n in range(1000)]}
    bodies = {
        "a packet of 1000 readings": (text, ()),
        "the same as gzip": (gzip.compress(text), zipped),
        "1000 sensors that are not there": (
            json.dumps(packet | {"readings": unknown}).encode(),
            (),
        ),
        "8 MB of blanks as gzip": (gzip.compress(small + b" " * 8_000_000), zipped),
        "8 MB of arrays as gzip": (gzip.compress(b"[" + b"[]," * 2_700_000 + b"1]"), zipped),
        "1 MB of blanks": (small + b" " * 1_000_000, ()),
        "32 KB of arrays in a field": (
            small[:-1] + b', "x": [' + b"[]," * (most // 3) + b"1]}",
            (),
        ),
        "32 KB of objects": (small[:-1] + b', "x": [' + b'{"":0},' * (most // 7) + b"1]}", ()),
        "32 KB of names": (
            small[:-1] + b"".join(b', "t%dme": 0' % n for n in range(most // 14)) + b"}",
            (),
        ),
        "32 KB that are not UTF-8 at their end": (small[:-1] + b" " * most + b"\xff", ()),
        "32 KB of digits": (small.replace(b"1.5", b"1" * most), ()),
        "32 KB of nesting": (b'{"a":' * (most // 5), ()),
        "1 MB of noise": (random.Random(1).randbytes(1_000_000), ()),
        "1000 legacy readings": (json.dumps(legacy).encode(), ()),
    }
    costs = {}
    for what, (body, headers) in bodies.items():
        path = "/ingest/readings/bulk" if "legacy" in what else "/ingest/packets"
        sent = partial(post, pipeline, body, *headers, path=path)
        status, _ = sent()
        assert status < 500, what
        costs[what] = measure(pipeline.url, sent)
    print(*(f"{lag.longest_ms:6.2f} ms  {what}" for what, lag in costs.items()), sep="\n")
    assert {what: lag for what, lag in costs.items() if lag.longest_ms > 5} == {}
