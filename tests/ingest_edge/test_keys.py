import asyncio
from contextlib import asynccontextmanager
from secrets import token_hex

import pytest
from pydantic import SecretStr

from contract.errors import PacketError, UnavailableError
from ingest_edge import keys as module
from ingest_edge.keys import Keys
from ops.devices import new_key, revoke_keys

from .conftest import counted_lookups


@asynccontextmanager
async def opened(settings, api_key=None, ttl_s=300.0):
    async with counted_lookups(settings) as (lookups, asked):
        yield Keys(lookups, api_key and SecretStr(api_key), ttl_s), asked


async def refused(keys, **headers):
    with pytest.raises(PacketError) as error:
        await check(keys, **headers)
    assert error.value.status == 401
    return str(error.value)


async def check(keys, **headers):
    return await keys.check(
        {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    )


def test_without_an_edge_key_any_client_may_post(settings):
    async def run():
        async with opened(settings) as (keys, asked):
            assert await check(keys) is None
            assert await check(keys, x_api_key="any") is None
            assert asked.asked == []

    asyncio.run(run())


def test_only_the_exact_edge_key_is_accepted(settings):
    async def run():
        async with opened(settings, "t0ken-é") as (keys, asked):
            assert await check(keys, x_api_key="t0ken-é") is None
            for wrong in ("", "t0ken", "t0ken-e", "T0KEN-É", "t0ken-é "):
                assert "t0ken" not in await refused(keys, x_api_key=wrong)
            await refused(keys)
            assert asked.asked == []

    asyncio.run(run())


def test_a_device_key_binds_to_its_device_with_and_without_an_edge_key(settings, database, rig):
    _, key = new_key(database, "rig", "test")
    _, other = new_key(database, "rig", "")

    async def run():
        for api_key in (None, "t0ken"):
            async with opened(settings, api_key) as (keys, _):
                assert await check(keys, x_device_key=key) == rig.uuid
                assert await check(keys, x_device_key=other) == rig.uuid
                # a wrong device key is refused even beside a correct edge key
                assert key not in await refused(keys, x_device_key=key[:-1], x_api_key="t0ken")

    asyncio.run(run())


def test_ten_thousand_wrong_keys_cost_one_query(settings, database, rig, monkeypatch):
    monkeypatch.setattr(module, "UNKNOWN_TTL_S", 60.0)
    _, key = new_key(database, "rig", "")

    async def run():
        async with opened(settings, "t0ken") as (keys, asked):
            for _ in range(10_000):
                await refused(keys, x_device_key=token_hex(32))
                await refused(keys, x_api_key=token_hex(32))
            assert asked.asked == ["list_device_keys"]
            assert await check(keys, x_device_key=key) == rig.uuid
            await asyncio.gather(*(refused(keys, x_device_key=str(n)) for n in range(1000)))
            assert asked.asked == ["list_device_keys"]

    asyncio.run(run())


def test_a_new_key_works_soon_and_a_revoked_one_stops_within_the_ttl(
    settings, database, rig, monkeypatch
):
    monkeypatch.setattr(module, "UNKNOWN_TTL_S", 0.1)

    async def run():
        async with opened(settings, ttl_s=0.5) as (keys, _):
            await refused(keys, x_device_key="wrong")
            _, key = new_key(database, "rig", "")
            await asyncio.sleep(0.1)
            assert await check(keys, x_device_key=key) == rig.uuid
            revoke_keys(database, "rig")
            await asyncio.sleep(0.5)
            await refused(keys, x_device_key=key)

    asyncio.run(run())


def test_an_expired_key_is_refused(settings, database, rig):
    _, key = new_key(database, "rig", "")
    _, lasting = new_key(database, "rig", "")
    past, future = "2020-01-01 00:00:00", "2100-01-01 00:00:00"
    update = (
        "UPDATE device_api_keys SET expires_at = '{}'"
        " WHERE id = (SELECT {}(id) FROM device_api_keys)"
    )
    database._connection.execute(update.format(past, "min"))
    database._connection.execute(update.format(future, "max"))

    async def run():
        async with opened(settings) as (keys, _):
            await refused(keys, x_device_key=key)
            assert await check(keys, x_device_key=lasting) == rig.uuid

    asyncio.run(run())


def test_cached_keys_work_while_the_database_is_unavailable(settings, database, rig):
    _, key = new_key(database, "rig", "")

    async def run():
        async with opened(settings, ttl_s=0.01) as (keys, asked):
            assert await check(keys, x_device_key=key) == rig.uuid
            asked.away = True
            await asyncio.sleep(0.02)
            assert await check(keys, x_device_key=key) == rig.uuid
        async with opened(settings) as (keys, asked):
            asked.away = True
            with pytest.raises(UnavailableError):
                await check(keys, x_device_key=key)

    asyncio.run(run())


def test_digests_are_compared_in_constant_time(settings, database, rig, monkeypatch):
    """Every comparison of a key goes through `hmac.compare_digest`."""
    compared = []

    def compare(left, right):
        compared.append((left, right))
        return left == right

    monkeypatch.setattr(module, "compare_digest", compare)
    _, key = new_key(database, "rig", "")

    async def run():
        async with opened(settings, "t0ken") as (keys, _):
            await check(keys, x_api_key="t0ken")
            await refused(keys, x_api_key="wrong")
            await check(keys, x_device_key=key)

    asyncio.run(run())
    assert len(compared) == 3
    assert all(len(digest) == 64 for pair in compared for digest in pair)
