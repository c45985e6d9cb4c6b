"""`python -m sql`: bring the schema of the configured database up to date."""

import sys
from hashlib import sha256

from contract.errors import IotError, SetupError
from contract.settings import Settings, load_settings
from sql.database import Database, applied


def apply_schema(settings: Settings) -> list[str]:
    """Apply the scripts that are missing, and return their names. Can be run again.

    A missing SQLite file or SQL Server database is created.

    Raises:
        IotError: by blame, see `Database`.
    """
    database = Database(settings, create=True)
    try:
        done = applied(database)
        new = []
        for name, batches in database.schema():
            checksum = sha256("\0".join(batches).encode()).hexdigest()
            if name not in done:
                database.migrate(name, batches, checksum)
                new.append(name)
            elif done[name] != checksum:
                raise SetupError(
                    f"{settings.database}: the schema script {name} is not the one that was "
                    "applied: restore it, and put the change into a script with a new number"
                )
        return new
    finally:
        database.close()


def main() -> int:
    """Apply and say what was done; 1 with one line on standard error when it cannot be."""
    try:
        settings = load_settings()
        new = apply_schema(settings)
    except IotError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{settings.database}: " + (f"applied {', '.join(new)}" if new else "up to date"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
