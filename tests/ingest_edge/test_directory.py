import asyncio
from contextlib import asynccontextmanager
from time import sleep
from uuid import uuid4

import pytest

from contract.errors import UnavailableError
from ingest_edge import directory as module
from ingest_edge.directory import Directory

from .conftest import counted_lookups


@asynccontextmanager
async def opened(settings, ttl_s=300.0):
    async with counted_lookups(settings) as (lookups, queries):
        yield Directory(lookups, ttl_s), queries


def test_a_device_is_queried_once_with_all_its_sensors(settings, rig):
    async def run():
        async with opened(settings) as (directory, queries):
            assert directory.fresh(rig.uuid) is None
            device = await directory.device(rig.uuid)
            assert set(device.sensors) == set(rig.sensors.values())
            assert directory.fresh(rig.uuid) is device
            assert await directory.device(rig.uuid) is device
            assert queries.asked == ["sensors_of_device"]

    asyncio.run(run())


def test_concurrent_lookups_share_one_query(settings, rig):
    async def run():
        async with opened(settings) as (directory, queries):
            devices = await asyncio.gather(*(directory.device(rig.uuid) for _ in range(1000)))
            ids = sorted(devices[0].sensors.values())
            owners = await asyncio.gather(*(directory.owners(ids) for _ in range(1000)))
            assert len({id(device) for device in devices}) == 1
            assert owners == [dict.fromkeys(ids, rig.uuid)] * 1000
            assert queries.asked == ["sensors_of_device", "devices_of_sensors"]

    asyncio.run(run())


def test_an_unknown_id_is_queried_once_in_two_seconds(settings, rig, monkeypatch):
    monkeypatch.setattr(module, "UNKNOWN_TTL_S", 60)

    async def run():
        async with opened(settings) as (directory, queries):
            for _ in range(100):
                assert await directory.device(str(uuid4())) is None
            unknown = str(uuid4())
            queries.asked.clear()
            for _ in range(100):
                assert await directory.device(unknown) is None
                assert await directory.owners([987654]) == {}
            assert queries.asked == ["sensors_of_device", "devices_of_sensors"]
            monkeypatch.setattr(module, "UNKNOWN_TTL_S", 0.05)
            await asyncio.sleep(0.1)
            assert await directory.device(unknown) is None
            assert len(queries.asked) == 3

    asyncio.run(run())


def test_a_device_with_a_missing_sensor_is_queried_again_but_not_every_time(
    settings, rig, monkeypatch
):
    monkeypatch.setattr(module, "UNKNOWN_TTL_S", 60)

    async def run():
        async with opened(settings) as (directory, queries):
            await directory.device(rig.uuid)
            for _ in range(100):
                await directory.device(rig.uuid, [str(uuid4())])
            assert len(queries.asked) == 1
            monkeypatch.setattr(module, "UNKNOWN_TTL_S", 0.05)
            await asyncio.sleep(0.1)
            await directory.device(rig.uuid, [str(uuid4())])
            assert len(queries.asked) == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE devices SET status = 'deleted'",
        "UPDATE devices SET status = 'revoked'",
        "UPDATE sensors SET is_active = 0",
    ],
)
def test_a_revoked_device_or_sensor_stops_within_the_ttl(settings, database, rig, statement):
    async def run():
        async with opened(settings, ttl_s=0.3) as (directory, _):
            known = await directory.device(rig.uuid)
            ids = sorted(known.sensors.values())
            assert len(await directory.owners(ids)) == 5
            database._connection.execute(statement)
            sleep(0.3)
            assert directory.fresh(rig.uuid) is None
            device = await directory.device(rig.uuid)
            assert device is None or not device.sensors
            assert await directory.owners(ids) == {}

    asyncio.run(run())


def test_known_devices_continue_while_the_database_is_unavailable_and_others_fail(settings, rig):
    async def run():
        async with opened(settings, ttl_s=0.01) as (directory, queries):
            known = await directory.device(rig.uuid)
            ids = list(known.sensors.values())
            await directory.owners(ids)
            queries.away = True
            await asyncio.sleep(0.02)
            queries.asked.clear()
            for _ in range(100):
                assert await directory.device(rig.uuid) is known
                assert len(await directory.owners(ids)) == 5
                with pytest.raises(UnavailableError):
                    await directory.device(str(uuid4()))
                with pytest.raises(UnavailableError):
                    await directory.owners([987654])
            assert len(queries.asked) == 1  # after a failure it is not queried for a while

    asyncio.run(run())


def test_memory_is_bounded_and_unknown_ids_evict_no_real_device(settings, rig, monkeypatch):
    monkeypatch.setattr(module, "_DEVICES", 3)
    monkeypatch.setattr(module, "_UNKNOWN", 3)

    async def run():
        async with opened(settings) as (directory, _):
            await directory.device(rig.uuid)
            for _ in range(10):
                await directory.device(str(uuid4()))
            assert directory.fresh(rig.uuid) is not None
            assert len(directory._unknown) == 3

    asyncio.run(run())
