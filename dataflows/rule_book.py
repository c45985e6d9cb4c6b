"""Which rules apply from which arrival time on: the same for every process, restart and replay.

Rules are read from their tables again and again. When they differ from the newest version, they are
written down as the next one in `rule_versions`, with the arrival time from which they apply: a
little ahead, so that every process has read of it before it comes to records of that time. A
process that could not read for that long waits. So what is judged by which rules is a function of
the log and of `rule_versions`, and a change is in force within `RULES_REFRESH_SECONDS`.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from time import sleep, time
from typing import Any, Protocol

import stamina
import structlog
from prometheus_client import Gauge

from contract.errors import IotError, UnavailableError
from contract.settings import Settings
from dataflows.events import Names
from dataflows.rules import Refused, Rules, RuleSet, decode_rules, make_rules
from dataflows.texts import Named
from sql.database import Database, open_database

_CLOCKS_MS = 2_000
"""How far the clocks of our machines, and of the broker, may be apart."""
_TABLES = {
    "alert_thresholds": (
        "list_alert_thresholds",
        ("id", "sensor_id", "name", "condition_type", "threshold_value_min", "threshold_value_max",
         "severity", "consecutive_readings", "clear_after", "reset_value_min", "reset_value_max",
         "forecast_after"),
    ),
    "sensor_threshold_profiles": (
        "list_profiles",
        ("id", "sensor_id", "warning_min", "warning_max", "alert_min", "alert_max"),
    ),
    "delta_thresholds": (
        "list_deltas",
        ("id", "sensor_id", "abs_delta", "rel_delta", "abs_slope", "rel_slope", "severity",
         "min_readings", "raise_after", "clear_after"),
    ),
}  # fmt: skip
"""table -> the statement that lists it, and the names of what that gives."""

_refused = Gauge("iot_rules_refused", "Rows of rules that make no sense and are not in force")
_log = structlog.get_logger("rules")


@dataclass(frozen=True, slots=True)
class Edition:
    """Rules, and the arrival time from which they apply."""

    applies_from: int
    """Epoch milliseconds UTC."""
    rules: Rules


class RuleBook(Protocol):
    """What a partition asks for its rules."""

    @property
    def names(self) -> Names:
        """How to call sensors and devices, as far as known now."""

    def editions(self, arrival: int) -> Sequence[Edition]:
        """All editions that can apply up to `arrival`, in order; the first one applies from the
        beginning.
        """


@dataclass(frozen=True)
class OneEdition:
    """The same rules for all time."""

    rules: Rules
    names: Names

    def editions(self, arrival: int) -> Sequence[Edition]:
        """Only one."""
        return (Edition(0, self.rules),)


class LiveRules:
    """The rules of the configured database, read again every third of the interval."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._interval_ms = int(settings.rules_refresh_seconds * 1000)
        self._names = Names(settings.iot_lang)
        self._names_at = 0
        self._editions: list[Edition] = []
        self._known: dict[str, Rules] = {}
        self._said: list[Refused] = []
        self._until = 0
        self._asked = Condition()
        self._thread: Thread | None = None

    @property
    def names(self) -> Names:
        """As the database had them at most one interval ago."""
        return self._names

    def editions(self, arrival: int) -> Sequence[Edition]:
        """Waits while the database is away and editions for `arrival` may be missing."""
        with self._asked:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="rules", daemon=True)
                self._thread.start()
            if arrival > self._until and arrival <= int(time() * 1000) + _CLOCKS_MS:
                self._asked.notify_all()
                self._asked.wait_for(lambda: arrival <= self._until)
            return self._editions

    def load(self) -> RuleSet:
        """Read rules and names now; returns the newest rules.

        Raises:
            IotError: by blame, see `Database`.
        """
        now = int(time() * 1000)
        database = open_database(self._settings)
        try:
            editions, newest = self._read(database, now)
            if now - self._names_at >= self._interval_ms:
                self._names, self._names_at = _names(database, self._settings.iot_lang), now
        finally:
            database.close()
        with self._asked:
            self._editions = editions
            self._until = now + self._ahead_ms - _CLOCKS_MS
            self._asked.notify_all()
        return newest

    @property
    def _ahead_ms(self) -> int:
        return self._interval_ms * 2 // 3

    def _read(self, database: Database, now: int) -> tuple[list[Edition], RuleSet]:
        rows = database.query("list_rule_versions")
        good = decode_rules(rows[-1][3]) if rows else None
        tables = {
            table: [dict(zip(columns, row, strict=True)) for row in database.query(statement)]
            for table, (statement, columns) in _TABLES.items()
        }
        newest, refused = make_rules(tables, good)
        self._say(refused)
        if good is None or newest.version() != rows[-1][2]:
            applies_from = now + self._ahead_ms if rows else 0
            text = newest.encode().decode()
            database.execute("add_rule_version", applies_from, newest.version(), text)
            rows = database.query("list_rule_versions")
            _log.info("rules changed", version=newest.version(), applies_from=applies_from)
        for _, _, version, text in rows:
            if version not in self._known:
                self._known[version] = Rules(decode_rules(text))
        return [Edition(row[1], self._known[row[2]]) for row in rows], newest

    def _say(self, refused: list[Refused]) -> None:
        if refused == self._said:
            return
        self._said = refused
        _refused.set(len(refused))
        for one in refused:
            _log.error(
                "rule refused; the last good one stays in force"
                if one.kept
                else "rule refused; there is none in its place",
                table=one.table,
                id=one.id,
                error=one.error,
            )

    def _run(self) -> None:
        while True:
            with self._asked:
                self._asked.wait(self._interval_ms / 3000)
            attempts = stamina.retry_context(
                on=UnavailableError, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
            )
            for attempt in attempts:
                with attempt:
                    try:
                        self.load()
                    except UnavailableError as error:
                        _log.warning("rules not read, trying again", error=str(error))
                        raise
                    except IotError as error:
                        _log.error("rules not read", error=str(error))
                        sleep(1)


def _names(database: Database, language: str) -> Names:
    sensors: dict[int, Named] = {}
    devices: dict[int, str] = {}
    for sensor_id, name, kind, unit, device_id, device in database.query("list_sensor_names"):
        sensors[sensor_id] = Named(name, kind, unit, device)
        devices[device_id] = device
    return Names(language, sensors, devices)


def in_force(editions: Sequence[Edition], arrival: int) -> Edition:
    """The edition that applies at an arrival time.

    >>> in_force([Edition(0, "a"), Edition(7, "b")], 6).rules
    'a'
    """
    place = bisect_right(editions, arrival, key=_applies_from)
    return editions[max(0, place - 1)]


def _applies_from(edition: Edition) -> Any:
    return edition.applies_from
