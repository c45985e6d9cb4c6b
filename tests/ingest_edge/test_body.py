import asyncio

import pytest

from contract.errors import PacketError, UnavailableError
from ingest_edge import body as module
from ingest_edge.body import MAX_BODY, Bodies, Incoming, discard


def sender(*pieces, end=True):
    """What a server's `receive` gives: the pieces, then the end, or silence."""
    messages = [{"type": "http.request", "body": one, "more_body": True} for one in pieces]
    if end is True:
        messages[-1]["more_body"] = False
    elif end == "hangs up":
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


def test_a_body_is_what_its_pieces_make():
    assert read(b"abc") == b"abc"
    assert read(b"", b"ab", b"", b"c") == b"abc"


def test_a_body_has_one_mib_at_most_however_it_comes():
    assert len(read(b"x" * MAX_BODY)) == MAX_BODY
    assert len(read(b"x" * 1000, b"x" * (MAX_BODY - 1000))) == MAX_BODY
    assert status_of(b"x" * (MAX_BODY + 1)) == 413
    assert status_of(*[b"x" * 65536] * 17) == 413
    assert status_of(b"x" * 65536, b"x" * MAX_BODY) == 413


def test_a_body_that_is_too_large_is_refused_by_its_length_or_as_soon_as_it_is_too_large():
    assert status_of(b"", headers={b"content-length": b"%d" % (MAX_BODY + 1)}, end=False) == 413
    assert status_of(b"", headers={b"content-length": b"9" * 5000}, end=False) == 413
    assert status_of(*[b"x" * 65536] * 17, end=False) == 413


def test_a_sender_that_hangs_up_is_told_nothing_is_kept():
    assert status_of(b"abc", end="hangs up") == 400


def test_a_sender_that_stops_sending_is_given_up_and_only_that_one(monkeypatch):
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


def test_a_request_that_is_cancelled_by_another_is_cancelled():
    async def run():
        bodies = Bodies()
        slow = asyncio.create_task(bodies.read(Incoming({}, sender(b"abc", end=False))))
        await asyncio.sleep(0)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        bodies.close()

    asyncio.run(run())


def test_all_bodies_under_way_together_have_a_bound():
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


def test_what_is_left_of_a_refused_body_is_read_for_a_while():
    async def left(headers, receive):
        return await discard(Incoming(headers, receive))

    assert asyncio.run(left({}, sender(b"abc", b"def")))
    assert not asyncio.run(left({}, sender(b"abc", end=False)))
    assert not asyncio.run(left({}, sender(*[b"x" * MAX_BODY] * 100)))
    assert not asyncio.run(left({b"expect": b"100-continue"}, sender(b"abc")))
