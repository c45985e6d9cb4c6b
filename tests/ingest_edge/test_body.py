import asyncio

import pytest

from contract.errors import PacketError, UnavailableError
from ingest_edge import body as module
from ingest_edge.body import MAX_BODY, Bodies, Incoming, discard


def sender(*pieces, end=True):
    """The `receive` of a server that returns the pieces, then the end, a disconnect or nothing."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if end is True:
        messages[-1]["more_body"] = False
    elif end == "disconnect":
        messages.append({"type": "http.disconnect"})

    async def receive():
        if messages:
            return messages.pop(0)
        return await asyncio.get_running_loop().create_future()

    return receive


def read(*pieces, headers=None, end=True, bodies=None):
    async def run():
        reader = bodies() if bodies else Bodies()
        try:
            return await reader.read(Incoming(headers or {}, sender(*pieces, end=end)))
        finally:
            reader.close()

    return asyncio.run(run())


def status_of(*arguments, **options):
    with pytest.raises(PacketError) as refused:
        read(*arguments, **options)
    return refused.value.status


def test_a_body_is_joined_from_its_chunks():
    assert read(b"abc") == b"abc"
    assert read(b"", b"ab", b"", b"c") == b"abc"


def test_a_body_is_limited_to_one_mib_in_one_chunk_or_many():
    assert len(read(b"x" * MAX_BODY)) == MAX_BODY
    assert len(read(b"x" * 1000, b"x" * (MAX_BODY - 1000))) == MAX_BODY
    assert status_of(b"x" * (MAX_BODY + 1)) == 413
    assert status_of(*[b"x" * 65536] * 17) == 413
    assert status_of(b"x" * 65536, b"x" * MAX_BODY) == 413


def test_a_body_that_is_too_large_is_refused_by_content_length_or_while_reading():
    assert status_of(b"", headers={b"content-length": b"%d" % (MAX_BODY + 1)}, end=False) == 413
    assert status_of(b"", headers={b"content-length": b"9" * 5000}, end=False) == 413
    assert status_of(*[b"x" * 65536] * 17, end=False) == 413


def test_a_sender_that_disconnects_gets_400():
    assert status_of(b"abc", end="disconnect") == 400


def test_a_sender_that_stops_sending_times_out_and_others_do_not(monkeypatch):
    monkeypatch.setattr(module, "BODY_S", 0.5)

    async def run():
        bodies = Bodies()
        slow = asyncio.create_task(bodies.read(Incoming({}, sender(b"abc", end=False))))
        others = []
        for _ in range(20):
            await asyncio.sleep(0.1)
            others.append(await bodies.read(Incoming({}, sender(b"a", b"b"))))
        with pytest.raises(PacketError) as refused:
            await slow
        bodies.close()
        assert refused.value.status == 408
        assert others == [b"ab"] * 20

    asyncio.run(run())


def test_a_request_cancelled_from_outside_stays_cancelled():
    async def run():
        bodies = Bodies()
        slow = asyncio.create_task(bodies.read(Incoming({}, sender(b"abc", end=False))))
        await asyncio.sleep(0)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        bodies.close()

    asyncio.run(run())


def test_the_total_size_of_incomplete_bodies_is_limited():
    async def run():
        bodies, piece = Bodies(), b"x" * (MAX_BODY // 2)
        waiting = [
            asyncio.create_task(bodies.read(Incoming({}, sender(piece, piece, end=False))))
            for _ in range(64)
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError):
            await bodies.read(Incoming({}, sender(b"x", b"y")))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await bodies.read(Incoming({}, sender(b"x", b"y"))) == b"xy"
        bodies.close()

    asyncio.run(run())


def test_the_rest_of_a_refused_body_is_discarded_within_limits():
    async def discarded(headers, receive):
        return await discard(Incoming(headers, receive))

    assert asyncio.run(discarded({}, sender(b"abc", b"def")))
    assert not asyncio.run(discarded({}, sender(b"abc", end=False)))
    assert not asyncio.run(discarded({}, sender(*[b"x" * MAX_BODY] * 100)))
    assert not asyncio.run(discarded({b"expect": b"100-continue"}, sender(b"abc")))
