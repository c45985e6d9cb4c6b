"""Databases on the T-SQL server: empty ones, and an installation of the old system."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from contract.settings import Settings
from sql.database import Database
from sql.mssql import batches, connect


@contextmanager
def new_database(server: Settings) -> Iterator[Settings]:
    """Settings of a database that does not exist yet, and is dropped at the end."""
    name = f"iot_test_{uuid4().hex[:8]}"
    yield server.model_copy(update={"db_name": name})
    master = connect(server.model_copy(update={"db_name": "master"}), create=False)
    with suppress(Exception):  # SQL Server cannot drop a database in use
        master.execute(f"ALTER DATABASE {name} SET SINGLE_USER WITH ROLLBACK IMMEDIATE")
    with suppress(Exception):
        master.execute(f"DROP DATABASE {name}")
    master.close()


def install_old(settings: Settings) -> None:
    """Create the database with the old system's tables, rows, procedures and trigger."""
    database = Database(settings, create=True)
    script = Path(__file__).with_name("old_installation.sql").read_text(encoding="utf-8")
    for batch in batches(script):
        database._connection.execute(batch)
    database.close()
