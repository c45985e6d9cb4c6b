from contextlib import asynccontextmanager

import pytest

from contract.errors import UnavailableError
from ingest_edge.lookups import Lookups
from ops.devices import SensorSpec, register


class Counted:
    """A database that records its queries and can be made unavailable."""

    def __init__(self, database):
        self._database = database
        self.asked: list[str] = []
        self.away = False

    def query(self, query, *parameters):
        self.asked.append(query.name)
        if self.away:
            raise UnavailableError("away")
        return self._database.query(query, *parameters)

    def close(self):
        pass


@asynccontextmanager
async def counted_lookups(settings):
    """Lookups and their database."""
    lookups = Lookups(settings)
    await lookups.open()
    counted = Counted(lookups._database)
    lookups._connect = lambda: counted  # type: ignore[assignment, method-assign, return-value]
    try:
        yield lookups, counted
    finally:
        lookups.close()


@pytest.fixture
def rig(database):
    return register(database, "rig", [SensorSpec(f"s{n}", "other", "") for n in range(5)])
