"""How often sensors with nothing wrong raise alarms that nobody configured, by kind and interval.

The signals of `bench.signals` run through the engine as the flow uses it, without rules. Counted
are events of type warning and critical per sensor-day. Notices are counted apart. Then the
scenarios of `iot simulate` are counted in unread notifications per incident, and labelled series,
if they are present, in windows found and in false WARN per sensor-day.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bench.nab import LabelledSeries, load
from bench.signals import SIGNALS
from contract.columns import Ints, PacketColumns, ReadingColumns, RecordColumns
from contract.event import Event
from contract.level import Level
from contract.packet import NO_TIME, pack
from dataflows.engine import DuplicateLogic, Engine, Times
from dataflows.log import record_columns
from ml.online import PartitionDetector
from ops.scenarios import NAMES, START_MS, make_scenario
from rules.columns import Rules
from rules.kind import CLEAR_AFTER, RAISE_AFTER_SLOWLY
from rules.tables import RuleSet, make_rules
from rules.words import Names

DAY_MS = 86_400_000
DATA = Path(__file__).parents[2] / "shared" / "data" / "labelled"
"""Where labelled series are looked for: beside the repository, as they are not part of it."""
INTERVALS: dict[str, tuple[int, float, int]] = {
    "1 s": (1_000, 1.0, 6),
    "10 s": (10_000, 4.0, 6),
    "1 min": (60_000, 15.0, 6),
    "10 min": (600_000, 60.0, 6),
    "1 h": (3_600_000, 240.0, 6),
}
"""Name -> interval in ms, days of each sensor, and sensors of each kind."""
_RECORDS = 300
"""Records of a step."""
_SEEDS = 5
"""Seeds of each scenario."""
LABELLED = ("3w", "nab", "ms", "gecco", "ucr")
"""The suites of labelled series. `nab` stands for all that begin with it."""


@dataclass(slots=True)
class Cell:
    """The events of one kind of signal at one interval."""

    days: float
    """Sensor-days."""
    by_code: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(event type, code) -> number of events."""

    def per_day(self, event_type: str, code: str | None = None) -> float:
        """Events per sensor-day."""
        return (
            sum(
                n
                for (of_type, of_code), n in self.by_code.items()
                if of_type == event_type and code in {None, of_code}
            )
            / self.days
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The cells by kind and interval, and the figures of the last lines."""

    cells: dict[tuple[str, str], Cell]
    figures: dict[str, float | dict[str, float]]

    @property
    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows: WARN and CRITICAL per sensor-day by kind and interval, and events
        per sensor-day by kind, type and code.
        """
        rates = []
        for kind in SIGNALS:
            cells = [self.cells[kind, name] for name in INTERVALS]
            rates.append(
                [kind, *(f"{c.per_day('warning'):.2f} {c.per_day('critical'):.3f}" for c in cells)]
            )
        columns = sorted({code for cell in self.cells.values() for code in cell.by_code})
        codes = []
        for kind in SIGNALS:
            cells = [self.cells[kind, name] for name in INTERVALS]
            per_day = (float(np.mean([c.per_day(*column) for c in cells])) for column in columns)
            codes.append([kind, *(f"{rate:.3f}" for rate in per_day)])
        return [
            ("WARN and CRITICAL a day", list(INTERVALS), rates),
            ("events a day, mean over the intervals", [" ".join(c) for c in columns], codes),
        ]


def run(data: Path, progress: Callable[[str], None], scale: float = 1.0) -> Result:
    """Run all signals, the scenarios, and the labelled series in `data` if there are any. `scale`
    shortens the days of each sensor.
    """
    cells: dict[tuple[str, str], Cell] = {}
    for name, (interval, days, sensors) in INTERVALS.items():
        panes = int(days * scale * DAY_MS / interval)
        for kind, cell in healthy(interval, panes, sensors).items():
            cells[kind, name] = cell
        progress(f"{name}: {sum(c.days for (_, i), c in cells.items() if i == name):,.0f} days")
    warn = [cell.per_day("warning") for cell in cells.values()]
    critical = [cell.per_day("critical") for cell in cells.values()]
    figures: dict[str, float | dict[str, float]] = {
        "worst_warn_per_day": round(max(warn), 3),
        "worst_critical_per_day": round(max(critical), 3),
        "mean_warn_per_day": round(float(np.mean(warn)), 3),
        "unread_per_incident": round(unread_per_incident(_SEEDS), 3),
    }
    progress("scenarios done")
    if (data / "windows.json").is_file():
        figures["found_share"], figures["false_warn_per_day"] = labelled(load(data))
    return Result(cells, figures)


def healthy(interval: int, panes: int, sensors: int) -> dict[str, Cell]:
    """Run all kinds of signals, `sensors` sensors of each, in one engine."""
    kinds = list(SIGNALS)
    value = np.stack([_signal(kind, interval, panes, n) for kind in kinds for n in range(sensors)])
    cells = {kind: Cell(sensors * panes * interval / DAY_MS) for kind in kinds}
    engine = Engine(Times(), PartitionDetector())
    rules, names = Rules(RuleSet()), Names("en")
    for first in range(0, panes, _RECORDS):
        piece = _piece(interval, first, value[:, first : first + _RECORDS])
        for event in engine.step(piece, rules, names).events:
            if event.sensor_id is not None:
                cell = cells[kinds[event.sensor_id // sensors]]
                cell.by_code[event.event_type, event.event_code] += 1
    return cells


def _signal(kind: str, interval: int, panes: int, number: int) -> NDArray[np.float32]:
    """A sensor's values, in 32 bits: they are kept for all sensors at once."""
    random = np.random.default_rng([crc32(kind.encode()), interval, number])
    value = SIGNALS[kind](random, np.arange(float(panes)) * (interval / 1000.0))
    return np.asarray(value, np.float32)


def _piece(interval: int, first: int, value: NDArray[np.float32]) -> PacketColumns:
    """A record for each column of `value` (S, R): one packet with a reading of every sensor."""
    sensors, records = value.shape
    at = START_MS + (first + np.arange(records)) * interval
    reading_ts = np.repeat(1000 * at, sensors)
    return PacketColumns(
        RecordColumns(
            arrival=at + 50,
            partition=np.zeros(records, np.int64),
            offset=first + np.arange(records),
            version=np.full(records, 2, np.int8),
            device_id=np.ones(records, np.int64),
            packet_hash=first + np.arange(records),
            received_at=1000 * at,
            fresh=np.ones(records, np.bool_),
            count=np.full(records, sensors),
        ),
        ReadingColumns(
            sensor_id=np.tile(np.arange(sensors), records),
            ts=reading_ts,
            device_ts=np.full(len(reading_ts), NO_TIME),
            value=value.T.ravel().astype(np.float64),
            seq=np.zeros(len(reading_ts), np.int64),
        ),
    )


def unread_per_incident(seeds: int) -> float:
    """Unread notifications per incident, over all scenarios of `iot simulate`."""
    unread = incidents = 0
    for name in NAMES:
        for seed in range(seeds):
            events = _events_of(name, seed)
            unread += sum(not event.silent for event in events)
            incidents += len({event.incident_key for event in events})
    return unread / max(incidents, 1)


def _events_of(name: str, seed: int) -> list[Event]:
    """The events of a scenario, in order."""
    scenario = make_scenario(name, seed)  # type: ignore[arg-type]
    rules, _ = make_rules(scenario.tables)
    events: list[Event] = []
    for partition in sorted({post.partition for post in scenario.posts}):
        posts = [post for post in scenario.posts if post.partition == partition]
        packets = [None if post.packet is None else pack(post.packet) for post in posts]
        duplicates, engine = DuplicateLogic(None), Engine(Times(), PartitionDetector())
        piece = record_columns([post.arrival for post in posts], packets)
        ((marked,), _) = duplicates.on_batch([piece])
        events += engine.step(marked, Rules(rules), Names("en")).events
    return events


def labelled(every: Sequence[LabelledSeries]) -> tuple[dict[str, float], dict[str, float]]:
    """By suite: the share of windows in which the detector raises WARN, and the number of times per
    sensor-day that it does so outside the windows.
    """
    found: Counter[str] = Counter()
    windows: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    days = dict.fromkeys(LABELLED, 0.0)
    sensor_id = np.repeat(np.arange(len(every)), [len(series.end) for series in every])
    end = np.concatenate([series.end for series in every])
    value = np.concatenate([series.value for series in every])
    _, first = np.unique(sensor_id * 2**45 + end, return_index=True)  # some stamps occur twice
    given = np.zeros(len(end), np.int8)
    detector = PartitionDetector()
    given[first] = detector.step(sensor_id[first], end[first], value[first]).level
    for index, series in enumerate(every):
        suite = next(s for s in LABELLED if series.name.startswith(s))
        at = raised(given[sensor_id == index])
        inside = series.window[at]
        found[suite] += len(set(inside[inside >= 0].tolist()))
        windows[suite] += series.windows
        alarms[suite] += int((inside < 0).sum())
        outside = (series.window < 0)[1:]
        days[suite] += float(np.diff(series.end)[outside].sum()) / DAY_MS
    return (
        {s: round(found[s] / windows[s], 3) for s in LABELLED if windows[s]},
        {s: round(alarms[s] / days[s], 3) for s in LABELLED if days[s]},
    )


def raised(level: NDArray[np.int8]) -> Ints:
    """The panes at which a sensor's level becomes WARN, as the level machine has it."""
    panes, run, quiet, standing = [], 0, 0, False
    for pane, unusual in enumerate((level >= Level.WARN).tolist()):
        run, quiet = (run + 1, 0) if unusual else (0, quiet + 1)
        if not standing and run >= RAISE_AFTER_SLOWLY:
            panes.append(pane)
            standing = True
        elif quiet >= CLEAR_AFTER:
            standing = False
    return np.array(panes, np.int64)
