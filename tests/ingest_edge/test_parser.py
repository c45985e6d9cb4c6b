import asyncio
import gzip
import json
import os
import signal
import tracemalloc
import zlib
from time import thread_time

import pytest

from contract.errors import PacketError, UnavailableError
from ingest_edge import parser as module
from ingest_edge.inflate import inflated
from ingest_edge.parser import MAX_INFLATED, SMALL, Parser
from ingest_edge.requests import LegacyReading, PacketBody

GOOD = json.dumps(
    {"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": 1.5, "ts": 7}]}
).encode()


def parsed(*bodies, encoding=b"identity", kind=PacketBody):
    """The results of parsing the bodies concurrently."""

    async def run():
        parser = Parser()
        await parser.open()
        try:
            results = [parser.parse(body, encoding, kind) for body in bodies]
            return await asyncio.gather(*results, return_exceptions=True)
        finally:
            await parser.close()

    return asyncio.run(run())


def refusal(body, **options):
    (error,) = parsed(body, **options)
    assert isinstance(error, PacketError), error
    return error.status, str(error)


def test_a_large_body_is_parsed_like_a_small_one():
    small, large, zipped, after = parsed(GOOD, GOOD + b" " * SMALL, GOOD + b" " * SMALL * 4, GOOD)
    assert small == large == zipped == after
    assert small[0].readings[0].ts == 7
    assert parsed(gzip.compress(GOOD + b" " * SMALL), encoding=b"gzip") == [small]


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"x-gzip"])
def test_both_names_of_gzip_are_accepted(encoding):
    assert parsed(gzip.compress(GOOD), encoding=encoding) == parsed(GOOD)


def test_large_bodies_get_the_same_warnings_and_errors_as_small_ones():
    misspelt = GOOD.replace(b'"ts"', b'"time"')
    twice = GOOD.replace(b'"ts"', b'"ts": 1, "ts"')
    other = b'{"sensor_id": 3, "value": 1}'
    for more in (b"", b" " * SMALL):
        (packet, warnings), refused = parsed(misspelt + more, twice + more)
        assert packet.readings[0].ts is None
        assert "looks like a time" in warnings[0]
        assert (refused.status, str(refused)) == (
            422,
            "an object in the body has the same name twice",
        )
        assert parsed(other + more, kind=LegacyReading)[0][0].sensor_id == 3


def test_gzip_is_inflated_up_to_eight_mib():
    blank = b" " * (MAX_INFLATED - len(GOOD))
    assert parsed(gzip.compress(GOOD + blank), encoding=b"gzip") == parsed(GOOD)
    assert refusal(gzip.compress(GOOD + blank + b" "), encoding=b"gzip")[0] == 413
    bomb = gzip.compress(b"x" * 20 * MAX_INFLATED, 1)
    tracemalloc.start()
    assert inflated(bomb, MAX_INFLATED) is None
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * MAX_INFLATED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip at all",
        gzip.compress(GOOD)[:-1],
        gzip.compress(GOOD)[:-8] + b"\0" * 8,
        gzip.compress(GOOD) + b"more",
        gzip.compress(GOOD) + gzip.compress(GOOD),
        zlib.compress(GOOD),
    ],
    ids=["empty", "plain", "cut off", "wrong sum", "more", "two", "zlib"],
)
def test_invalid_gzip_is_refused(content):
    assert refusal(content, encoding=b"gzip")[0] == 422


@pytest.mark.parametrize("encoding", [b"br", b"deflate", b"zstd", b"gzip, gzip", b"\xff", b""])
def test_other_encodings_are_refused(encoding):
    assert refusal(GOOD, encoding=encoding)[0] == 415


def test_a_killed_process_is_replaced_and_only_the_body_in_progress_fails():
    async def run():
        parser = Parser()
        await parser.open()
        os.kill(parser._process.pid, signal.SIGKILL)
        await parser._process.wait()
        again = await parser.parse(GOOD + b" " * SMALL, b"identity", PacketBody)
        os.kill(parser._process.pid, signal.SIGSTOP)
        lost = asyncio.create_task(parser.parse(GOOD + b" " * SMALL, b"identity", PacketBody))
        await asyncio.sleep(0.1)
        os.kill(parser._process.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError, match="did not answer"):
            await lost
        assert await parser.parse(GOOD + b" " * SMALL, b"identity", PacketBody) == again
        await parser.close()

    asyncio.run(run())


def test_a_cancelled_request_does_not_leave_its_answer_to_the_next(monkeypatch):
    async def run():
        parser = Parser()
        await parser.open()
        given_up = asyncio.create_task(
            parser.parse(GOOD.replace(b"1.5", b"2.5") + b" " * SMALL * 8, b"identity", PacketBody)
        )
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        packet, _ = await parser.parse(GOOD + b" " * SMALL, b"identity", PacketBody)
        assert packet.readings[0].value == 1.5
        await parser.close()

    asyncio.run(run())


def test_the_number_of_waiting_large_bodies_is_limited(monkeypatch):
    monkeypatch.setattr(module, "_WAITING", 2)
    results = parsed(*[GOOD + b" " * SMALL] * 4)
    assert [type(result) for result in results[2:]] == [UnavailableError] * 2
    assert [type(result) for result in results[:2]] == [tuple] * 2


COSTLY = {
    "arrays": b"[" + b"[]," * (SMALL // 3 - 200) + b"1]",
    "objects": b"[" + b'{"":0},' * (SMALL // 7 - 100) + b"1]",
    "names": b"{" + b",".join(b'"n%05d":0' % n for n in range(SMALL // 11 - 100)) + b"}",
    "texts": b"[" + b'"",' * (SMALL // 3 - 200) + b"1]",
    "numbers": b"[" + b"0," * (SMALL // 2 - 200) + b"1]",
    "escapes": b'"' + b"\\n" * (SMALL // 2 - 200) + b'"',
}


@pytest.mark.parametrize("what", COSTLY)
def test_no_body_blocks_the_event_loop_longer_than_a_small_one(what):
    """Compares the CPU time of the loop's thread with the cost of parsing a small body."""
    body = GOOD[:-1] + b', "more": ' + COSTLY[what] + b"}"
    assert len(body) < SMALL

    async def run():
        parser = Parser()
        await parser.open()
        took = []
        for sent in (body, gzip.compress(body[:-1] + b" " * MAX_INFLATED), body + b" " * SMALL * 8):
            encoding = b"gzip" if sent.startswith(b"\x1f") else b"identity"
            costs = []
            for _ in range(3):
                start = thread_time()
                await asyncio.gather(
                    parser.parse(sent, encoding, PacketBody), return_exceptions=True
                )
                costs.append(thread_time() - start)
            took.append(min(costs))
        await parser.close()
        return took

    start = thread_time()
    json.loads(body)
    json.loads(COSTLY["arrays"])
    yardstick = thread_time() - start
    assert max(asyncio.run(run())) < 4 * yardstick
