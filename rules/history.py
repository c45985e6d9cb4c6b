"""Which rules apply from which arrival time: the same for every process, restart and replay.

Each process rereads the rule tables periodically. When the rules differ from the newest version,
the process adds a version to `rule_versions`, with the arrival time from which it applies. By the
database's clock, that time is far enough ahead that every process reads the version before it
reaches records of that time; a process that could not read for that long waits. Which rules apply
to a record is therefore a function of the log and of `rule_versions`, and a change is in force
within `RULES_REFRESH_SECONDS`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from threading import Condition, Thread
from time import monotonic, sleep
from typing import Any, Protocol

import stamina
import structlog
from prometheus_client import Gauge

from contract.errors import IotError, SchemaError, UnavailableError
from contract.settings import Settings
from rules.columns import Rules
from rules.tables import (
    SCHEMA,
    Refused,
    RuleSet,
    make_rules,
    names_of,
    rule_tables,
    rules_of_version,
)
from rules.words import Names
from sql.database import Database
from sql.schema import open_database
from sql.statements import LIST_RULE_VERSIONS, NOW_MS, RuleVersion

RULES_REFUSED = Gauge("iot_rules_refused", "Invalid rule rows, which are not in force")
_NAMES_AGAIN_S = 1.0
_AT_HAND = 8
"""The number of versions that are kept in memory."""
_log = structlog.get_logger("rules")


class RuleBook(Protocol):
    """Where a partition gets its rules."""

    @property
    def names(self) -> Names:
        """The names of sensors and devices that are known now."""

    def editions(self, arrival: int) -> Sequence[RuleVersion]:
        """All editions that can apply up to `arrival`, in order. The first one applies from the
        beginning.
        """

    def rules(self, version: str) -> Rules:
        """The rules of a version."""


@dataclass(frozen=True)
class OneEdition:
    """The same rules for all time."""

    only: Rules
    names: Names

    def editions(self, arrival: int) -> Sequence[RuleVersion]:
        """The only edition."""
        return (RuleVersion(0, self.only.version),)

    def rules(self, version: str) -> Rules:
        """The only rules."""
        return self.only


class LiveRules:
    """The rules of the configured database, read again every third of the interval."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._interval_ms = int(settings.rules_refresh_seconds * 1000)
        self._names = Names(settings.iot_lang)
        self._names_at = -inf
        self._editions: list[RuleVersion] = []
        self._newest: tuple[str, RuleSet] = ("", RuleSet())
        self._rules: dict[str, Rules] = {}
        """By version: the most recently used ones, at most `_AT_HAND`."""
        self._said: list[Refused] = []
        self._until = 0
        self._read_at = -inf
        self._error: Exception | None = None
        self._asked = Condition()
        self._thread: Thread | None = None

    @property
    def names(self) -> Names:
        """The names, at most one interval old. Those of a new sensor are read when they are asked
        for.
        """
        return replace(self._names, again=self._names_now)

    def _names_now(self) -> Names:
        """Names that are at most a second old, if the database can be read."""
        at = monotonic()
        if at - self._names_at >= _NAMES_AGAIN_S:
            try:
                with open_database(self._settings) as database:
                    self._names, self._names_at = names_of(database, self._settings.iot_lang), at
            except IotError as error:
                _log.warning("names of new sensors cannot be read", error=str(error))
        return self._names

    def editions(self, arrival: int) -> Sequence[RuleVersion]:
        """Waits while the database is unreachable and editions for `arrival` may be missing. An
        arrival that is still ahead after a fresh read comes from a different clock; it does not
        wait.
        """
        with self._asked:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="rules", daemon=True)
                self._thread.start()
            asked = monotonic()
            if arrival > self._until and asked - self._read_at > self._ahead_ms / 4000:
                self._asked.notify_all()
                self._asked.wait_for(
                    lambda: arrival <= self._until or self._read_at >= asked or self._error
                )
            if self._error:
                raise self._error
            return self._editions

    def rules(self, version: str) -> Rules:
        """From memory or from the database. Waits while the database is unreachable.

        Raises:
            SetupError: the database no longer has that version.
        """
        known = self._rules.get(version)
        if known is None:
            at_hand = dict(list(self._rules.items())[1 - _AT_HAND :])
            newest, rules = self._newest
            if version != newest:
                rules = self._fetched(version)
            known = Rules(rules)
            self._rules = at_hand | {version: known}
        return known

    def _fetched(self, version: str) -> RuleSet:
        for attempt in _until_back():
            with attempt, open_database(self._settings) as database:
                return rules_of_version(database, version)
        raise AssertionError("unreachable")

    def load(self) -> RuleSet:
        """Read rules and names now, and return the newest rules.

        Raises:
            IotError: the database cannot be read; see `Database` for the types.
        """
        at = monotonic()
        with open_database(self._settings) as database:
            (clock,) = database.query(NOW_MS)
            editions, newest = self._read(database)
            if at - self._names_at >= self._interval_ms / 1000:
                self._names, self._names_at = names_of(database, self._settings.iot_lang), at
        with self._asked:
            self._editions = editions
            self._until = clock.now_ms + self._ahead_ms * 3 // 4
            self._read_at = at
            self._asked.notify_all()
        return newest

    @property
    def _ahead_ms(self) -> int:
        return self._interval_ms * 2 // 3

    def _read(self, database: Database) -> tuple[list[RuleVersion], RuleSet]:
        editions = database.query(LIST_RULE_VERSIONS)
        good = None
        if editions:
            version, good = self._newest
            if version != editions[-1].version:
                good = rules_of_version(database, editions[-1].version)
        if good is not None and good.schema > SCHEMA:
            self._leave_to_newer(editions[-1].version)
            self._newest = editions[-1].version, good
            return editions, good
        newest, refused = make_rules(rule_tables(database), good)
        self._say(refused)
        version = newest.version()
        if not editions or version != editions[-1].version:
            text = newest.encode().decode()
            database.execute("add_rule_version", self._ahead_ms, version, text)
            editions = database.query(LIST_RULE_VERSIONS)
            _log.info("rules changed", version=version, applies_from=editions[-1].applies_from)
        self._newest = version, newest
        return editions, newest

    def _leave_to_newer(self, version: str) -> None:
        """A newer program wrote the newest version: write no version after it."""
        if version != self._newest[0]:
            _log.warning(
                "a newer version of this program manages the rules: this one applies those that it "
                "knows and does not detect changes; update it",
                version=version,
            )

    def _say(self, refused: list[Refused]) -> None:
        if refused == self._said:
            return
        self._said = refused
        RULES_REFUSED.set(len(refused))
        for row in refused:
            _log.error(
                "rule refused; its last valid version stays in force"
                if row.kept
                else "rule refused; it has no earlier valid version",
                table=row.table,
                id=row.id,
                error=row.error,
            )

    def _run(self) -> None:
        try:
            self._read_on()
        except Exception as error:  # noqa: BLE001 - the flow's own thread raises it
            with self._asked:
                self._error = error
                self._asked.notify_all()

    def _read_on(self) -> None:
        while True:
            with self._asked:
                self._asked.wait(self._interval_ms / 3000)
            for attempt in _until_back():
                with attempt:
                    try:
                        self.load()
                    except UnavailableError as error:
                        _log.warning("rules cannot be read, retrying", error=str(error))
                        raise
                    except SchemaError:  # waiting does not help, and would hide it
                        raise
                    except IotError as error:
                        _log.error("rules cannot be read", error=str(error))
                        sleep(1)


def _until_back() -> Iterable[stamina.Attempt]:
    """Attempts until the database answers."""
    return stamina.retry_context(
        on=UnavailableError, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
    )


def in_force(editions: Sequence[RuleVersion], arrival: int) -> RuleVersion:
    """The edition that applies at an arrival time.

    >>> in_force([RuleVersion(0, "a"), RuleVersion(7, "b")], 6).version
    'a'
    """
    place = bisect_right(editions, arrival, key=_applies_from)
    return editions[max(0, place - 1)]


def _applies_from(edition: RuleVersion) -> Any:
    return edition.applies_from
