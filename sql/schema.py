"""Schema migrations: the scripts, which of them a database has, and how to apply the others.

A numbered script, `schema/001_....sql`, is applied once and never changes. All other scripts
(views, procedures, and the patches that can also be applied alone) are repeatable, and are applied
again whenever their text changes. `schema_migrations` records each applied script with the checksum
of its text, and previous versions under a name with part of that checksum. So a program recognizes
a schema that a newer version has upgraded, and continues to use it, because scripts only add. A
numbered script that breaks older programs has `.breaking.` in its name. `NAME_2.sql` replaces
objects of `NAME.sql`, and is applied after each time that one is.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from contract.errors import SchemaError, SetupError
from contract.settings import Settings
from sql.database import Database, engine_module, schema_scripts
from sql.statements import HAS_MIGRATIONS, LIST_MIGRATIONS


@dataclass(frozen=True, slots=True)
class Script:
    """A schema script, split into batches for the engine."""

    name: str
    batches: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """SHA-256 of the batches, as hexadecimal digits."""
        return sha256("\0".join(self.batches).encode()).hexdigest()

    @property
    def replaces(self) -> str | None:
        """The name of the script whose objects this one replaces."""
        return self.name.replace("_2.sql", ".sql") if self.name.endswith("_2.sql") else None

    @property
    def once(self) -> bool:
        """Whether the script is numbered, so applied only once."""
        return self.name[:1].isdigit()


@cache
def scripts(engine: str) -> tuple[Script, ...]:
    """All scripts of `sqlite` or `mssql`, in the order in which they are applied."""
    unordered = [Script(name, batches) for name, batches in schema_scripts(engine)]
    return tuple(sorted(unordered, key=lambda script: (not script.once, script.name)))


def apply_schema(
    settings: Settings, tell: Callable[[str], None] = lambda _: None, again: Container[str] = ()
) -> list[str]:
    """Apply the scripts that are missing or have changed, and those named in `again`. Returns their
    names.

    Creates a missing SQLite file or SQL Server database. Safe to run again, even after a failure.
    `tell` is called with the name of each script before it is applied.

    Raises:
        IotError: by cause, see `Database`.
    """
    with Database(settings, create=True) as database, database.alone():
        return _apply(settings, database, tell, again)


def _apply(
    settings: Settings, database: Database, tell: Callable[[str], None], again: Container[str]
) -> list[str]:
    done = applied(database)
    _check_not_broken(settings, done)
    new = []
    for script in scripts(settings.engine):
        known = done.get(script.name) == script.checksum
        if known and script.name not in again and script.replaces not in new:
            continue
        if _before(script) in done:  # a newer version has replaced it
            continue
        if script.once and script.name in done:
            raise SetupError(
                f"{settings.database}: the schema script {script.name} is not the one that "
                "was applied: restore it, and put the change in a script with a new number"
            )
        tell(script.name)
        database.migrate(script.name, script.batches, script.checksum)
        new.append(script.name)
    return new


def open_database(settings: Settings) -> Database:
    """Connect to a database, and check that this program can use its schema.

    Raises:
        SchemaError: the schema is missing, outdated, or incompatible with this program; the text
            says what to do.
        UnavailableError: the server does not answer.
    """
    database = Database(settings)
    try:
        _check_usable(settings, applied(database))
    except BaseException:
        database.close()
        raise
    return database


def _check_usable(settings: Settings, done: dict[str, str]) -> None:
    _check_not_broken(settings, done)
    for script in scripts(settings.engine):
        if done.get(script.name) != script.checksum and _before(script) not in done:
            state = "has another version of" if script.name in done else "lacks"
            raise SchemaError(
                f"{settings.database} {state} the schema script {script.name}: run `python -m sql`"
            )


def _before(script: Script) -> str:
    """The name in `schema_migrations` of a script that was replaced."""
    return f"{script.name} {script.checksum[:12]}"


def _check_not_broken(settings: Settings, done: dict[str, str]) -> None:
    ours = {script.name for script in scripts(settings.engine)}
    for name in done:
        if ".breaking." in name and name not in ours:
            raise SchemaError(
                f"{settings.database} was changed by a newer version of this program ({name}), and "
                "this version can no longer use it: install the newer version"
            )


def applied(database: Database) -> dict[str, str]:
    """The applied scripts: name -> checksum. Empty for a database without our schema."""
    if not database.query(HAS_MIGRATIONS):
        return {}
    return {row.name: row.checksum for row in database.query(LIST_MIGRATIONS)}


def script_text(settings: Settings, name: str | None = None) -> str:
    """The scripts of the configured engine, in the order in which they are applied, or only the one
    called `name`. The text can be run with `sqlcmd` or `sqlite3`.

    Raises:
        SetupError: there is no script of that name.
    """
    plan = [script for script in scripts(settings.engine) if name in (None, script.name)]
    if not plan:
        raise SetupError(f"{name}: there is no script of that name for {settings.engine}")
    between = engine_module(settings.engine).between_scripts
    return "\n".join(
        f"-- {script.name}\n" + between.join(batch.strip() for batch in script.batches) + between
        for script in plan
    )
