"""Seeded scenarios: what devices send, the rules, and exactly which events must result.

The expected events follow from how a scenario is built and from the rules as an operator reads
them, never from a run of the engine. So the constants that they depend on are repeated here. They
hold with default settings. A scenario lasts less than ten minutes, before the first prediction
would be compared with actual readings.

Three devices post once a second. Device 3 is a bystander and never causes an event. A reading
differs from its sensor's middle by less than an 80th of the distance to its critical bounds: over
three readings or more, no such noise has a trend that would reach a bound within the minute that a
forecast looks ahead. A jump does, so sensors that jump have no forecast.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

import msgspec

from contract.errors import SetupError
from contract.event import device_event_key, event_key
from contract.level import Level
from contract.packet import FUTURE_MS, Packet, encode_version_1

Name = Literal[
    "normal", "spike", "drift", "flap", "offline", "late", "future", "duplicate", "restart-clock"
]
NAMES: tuple[Name, ...] = get_args(Name)

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: the first second of every scenario."""
CLEAR_AFTER = 5
"""Quiet seconds that clear a level."""
SILENT_MS = 30_000
"""How long a device or sensor that sends every second may be silent before an event."""
FORECAST_S = 60
"""How far ahead a forecast looks."""
FORECAST_AFTER = 3
"""Consecutive seconds that a trend must lead to a critical bound."""
FLAPPING_AFTER, SETTLED_AFTER = 10, 15
"""Consecutive changes that have more than half of the weight of 20, and seconds without a change
after which less than a quarter of it is left.
"""
REMEMBERED = 64
"""Packets of a device that are remembered to detect duplicates."""
_DAY_MS = 86_400_000
_HEARTBEATS = 15
"""Seconds of heartbeats at the end: panes and minutes close, and no device is silent yet."""

_PARTITION = {1: 0, 2: 1, 3: 1}
"""device -> partition"""
_BYSTANDER = 3


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a sensor measures: its value at each level, its noise and its ranges."""

    name: str
    unit: str
    value: dict[Level, float]
    noise: float
    warning: tuple[float, float]
    critical: tuple[float, float]


def _kind(  # noqa: PLR0917 - a table's columns
    name: str, unit: str, middle: float, warn: float, critical: float, noise: float,
    warning_range: tuple[float, float], critical_range: tuple[float, float],
) -> _Kind:  # fmt: skip
    value = {Level.NORMAL: middle, Level.WARN: warn, Level.CRITICAL: critical}
    return _Kind(name, unit, value, noise, warning_range, critical_range)


_KINDS = (
    _kind("temperature", "°C", 21.0, 35.0, 45.0, 0.2, (10.0, 32.0), (4.0, 38.0)),
    _kind("humidity", "%", 50.0, 80.0, 95.0, 0.4, (25.0, 75.0), (15.0, 85.0)),
    _kind("voltage", "V", 230.0, 250.0, 265.0, 0.3, (215.0, 245.0), (205.0, 255.0)),
)
_JUMP, _DELTA = 8.0, 5.0
"""A jump that stays within the ranges, and the smallest jump that raises a delta rule."""


class ExpectedEvent(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """An event that must occur, with the fields of a dry run's line."""

    sensor_id: int | None
    device_id: int
    at: int
    event_code: str
    event_type: str
    before: str | None = None
    after: str | None = None


class ExpectedCounts(msgspec.Struct):
    """What must be counted without causing an event."""

    late: int = 0
    """Readings."""
    future: int = 0
    """Readings."""
    duplicates: int = 0
    """Packets."""


@dataclass(frozen=True, slots=True)
class Post:
    """A record of the topic, or a heartbeat, which has no packet."""

    partition: int
    arrival: int
    packet: Packet | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """The input and the expected output."""

    posts: tuple[Post, ...]
    """In order of arrival."""
    tables: dict[str, list[dict[str, Any]]]
    """Table name -> rows of rules."""
    told: tuple[ExpectedEvent, ...]
    """In the order in which a dry run prints them."""
    counts: ExpectedCounts


def make_scenario(name: Name, seed: int) -> Scenario:
    """Build the scenario `name`. The same seed gives the same scenario."""
    return _MAKERS[name](Random(seed)).scenario()  # noqa: S311 - must be reproducible


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a scenario."""

    input: Path
    rules: Path
    expected: Path


def write_scenario(scenario: Scenario, out: Path) -> Files:
    """Write the input to `out` (`NAME.jsonl`), and next to it `NAME.rules.json` and
    `NAME.expected.json`.

    Raises:
        SetupError: `out` has another extension, or a file cannot be written.
    """
    if out.suffix != ".jsonl":
        raise SetupError(f"--out {out}: the file name must end in .jsonl")
    files = Files(out, out.with_suffix(".rules.json"), out.with_suffix(".expected.json"))
    expected = {"events": scenario.told, "counts": scenario.counts}
    try:
        files.input.write_bytes(b"".join(line + b"\n" for line in _lines(scenario)))
        for file, content in ((files.rules, scenario.tables), (files.expected, expected)):
            plain = msgspec.to_builtins(content)
            file.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be written: {error.strerror}") from error
    return files


def _lines(scenario: Scenario) -> Iterator[bytes]:
    offsets = dict.fromkeys(_PARTITION.values(), 0)
    for post in scenario.posts:
        line: dict[str, Any] = {"partition": post.partition, "arrival": post.arrival}
        if post.packet is not None:
            line |= {
                "offset": offsets[post.partition],
                "value": msgspec.Raw(encode_version_1(post.packet)),
            }
            offsets[post.partition] += 1
        yield msgspec.json.encode(line)


@dataclass(slots=True)
class _Draft:
    """A packet under construction."""

    device: int
    packet_id: str
    arrival: int
    readings: list[tuple[int, int, float]]
    """(sensor, ts, value)"""


class _Story:
    """A scenario under construction. It starts as three quiet devices that cause no events.

    Seconds count from the start. The events of a second's reading occur at the second's end.
    """

    def __init__(self, random: Random, seconds: int) -> None:
        self.random = random
        self.counts = ExpectedCounts()
        self._seconds = seconds
        self._expected: list[ExpectedEvent] = []
        self._jumping: set[int] = set()
        self._deltas: list[dict[str, Any]] = []
        self._drafts: dict[tuple[int, int], _Draft] = {}
        self._more: list[_Draft] = []
        phases = {device: random.randint(100, 800) for device in _PARTITION}
        for second in range(seconds):
            for device, phase in phases.items():
                ts = START_MS + second * 1000 + phase
                arrival = ts + random.randint(10, 90)
                if device == _BYSTANDER:  # it has no clock: the edge timestamps its readings
                    ts = arrival
                readings = []
                for sensor, kind in zip(self.sensors(device), _KINDS, strict=True):
                    noise = random.uniform(-kind.noise, kind.noise)
                    readings.append((sensor, ts, round(kind.value[Level.NORMAL] + noise, 3)))
                draft = _Draft(device, f"{device}-{second}", arrival, readings)
                self._drafts[device, second] = draft

    @staticmethod
    def sensors(device: int) -> tuple[int, ...]:
        return tuple(device * 10 + number for number in range(1, len(_KINDS) + 1))

    def sensor(self, device: int) -> int:
        """Pick a sensor of the device, which may jump."""
        chosen = self.random.choice(self.sensors(device))
        self._jumping.add(chosen)
        return chosen

    def draft(self, device: int, second: int) -> _Draft:
        return self._drafts[device, second]

    def post(self, draft: _Draft) -> None:
        """Send another packet."""
        self._more.append(draft)

    def skip(self, device: int, second: int) -> _Draft:
        """Remove the packet of a second, and return it."""
        return self._drafts.pop((device, second))

    def take(self, sensor: int, second: int) -> tuple[int, int, float]:
        """Remove a sensor's reading from its packet."""
        readings = self.draft(sensor // 10, second).readings
        return readings.pop([number for number, _, _ in readings].index(sensor))

    def set(self, sensor: int, second: int, value: float) -> None:
        readings = self.draft(sensor // 10, second).readings
        index = [number for number, _, _ in readings].index(sensor)
        readings[index] = (sensor, readings[index][1], value)

    def shift(self, sensor: int, second: int, by: float) -> None:
        """Add `by` to a reading, keeping its noise."""
        readings = self.draft(sensor // 10, second).readings
        (value,) = (value for number, _, value in readings if number == sensor)
        self.set(sensor, second, round(value + by, 3))

    def lift(self, sensor: int, second: int, level: Level) -> None:
        """Move a reading to the value of a level."""
        value = _KINDS[sensor % 10 - 1].value
        self.shift(sensor, second, value[level] - value[Level.NORMAL])

    def delta(self, sensor: int) -> None:
        """Give a sensor a delta rule."""
        number = len(self._deltas) + 1
        row = {"id": number, "sensor_id": sensor, "abs_delta": _DELTA, "severity": "warning"}
        self._deltas.append(row)

    def change(
        self, sensor: int, second: int, before: Level, after: Level, code: str = "ML_BEHAVIOR_STATE"
    ) -> None:
        """Expect a change of level."""
        kind = {Level.NORMAL: "notice", Level.WARN: "warning", Level.CRITICAL: "critical"}[after]
        code = code if after else "RECOVERED_ANOMALY"
        self._expect(sensor, second, code, kind, before.name, after.name)

    def flapping(self, sensor: int, second: int, *, begins: bool) -> None:
        """Expect the start or the end of flapping."""
        self._expect(
            sensor, second, "PATTERN_CHANGE", "warning" if begins else "notice", None, None
        )

    def _expect(  # noqa: PLR0917 - the fields of an event
        self, sensor: int, second: int, code: str, kind: str, before: str | None, after: str | None
    ) -> None:
        at = START_MS + second * 1000 + 1000
        self._expected.append(ExpectedEvent(sensor, sensor // 10, at, code, kind, before, after))

    def silence(self, device: int, sensor: int | None, last: int, back: int) -> None:
        """Expect the events for a device or sensor that is silent between two seconds."""
        due = self.draft(device, last).arrival + SILENT_MS
        heard = self.draft(device, back).arrival
        self._expected.append(ExpectedEvent(sensor, device, due, "NO_DATA", "notice"))
        self._expected.append(ExpectedEvent(sensor, device, heard, "DATA_RESUMED", "notice"))

    def excursion(self, sensor: int, first: int, seconds: int, level: Level) -> None:
        """Move a sensor out of its range and back, and expect both events."""
        for second in range(first, first + seconds):
            self.lift(sensor, second, level)
        self.change(sensor, first, Level.NORMAL, level)
        self.change(sensor, first + seconds - 1 + CLEAR_AFTER, level, Level.NORMAL)

    def scenario(self) -> Scenario:
        drafts = (*self._drafts.values(), *self._more)
        posts = [
            Post(_PARTITION[draft.device], draft.arrival, _packet(draft)) for draft in drafts
        ] + self._heartbeats()
        expected = sorted(self._expected, key=_place)
        posts.sort(key=lambda post: (post.arrival, post.partition))
        return Scenario(tuple(posts), self._tables(), tuple(expected), self.counts)

    def _heartbeats(self) -> list[Post]:
        """Heartbeats at the end of each second in which a partition has no record."""
        heard = {(_PARTITION[device], second) for device, second in self._drafts}
        return [
            Post(partition, START_MS + second * 1000 + 999)
            for second in range(self._seconds + _HEARTBEATS)
            for partition in sorted(set(_PARTITION.values()))
            if (partition, second) not in heard
        ]

    def _tables(self) -> dict[str, list[dict[str, Any]]]:
        devices = [{"id": device, "name": f"device {device}"} for device in _PARTITION]
        sensors: list[dict[str, Any]] = []
        thresholds: list[dict[str, Any]] = []
        for device in _PARTITION:
            for number, kind in zip(self.sensors(device), _KINDS, strict=True):
                sensors.append(
                    {
                        "id": number, "device_id": device, "name": f"{kind.name} {device}",
                        "sensor_type": kind.name, "unit": kind.unit,
                    }
                )  # fmt: skip
                for severity, (low, high) in (
                    ("warning", kind.warning), ("critical", kind.critical)
                ):  # fmt: skip
                    row = {
                        "id": len(thresholds) + 1, "sensor_id": number,
                        "name": f"{kind.name} {severity}", "condition_type": "out_of_range",
                        "severity": severity, "threshold_value_min": low,
                        "threshold_value_max": high,
                    }  # fmt: skip
                    if number in self._jumping:
                        row["forecast_after"] = 0
                    thresholds.append(row)
        tables = {"devices": devices, "sensors": sensors, "alert_thresholds": thresholds}
        return tables | ({"delta_thresholds": self._deltas} if self._deltas else {})


def _packet(draft: _Draft) -> Packet:
    sensors, ms, values = (list(column) for column in zip(*draft.readings, strict=True))
    times = [1000 * at for at in ms]
    return Packet(
        packet_id=draft.packet_id,
        device_id=draft.device,
        device_uuid=f"00000000-0000-4000-8000-{draft.device:012}",
        received_at=1000 * draft.arrival,
        sensor_id=sensors,
        ts=times,
        device_ts=None if draft.device == _BYSTANDER else times,
        value=values,
        seq=[0] * len(draft.readings),
    )


def _place(event: ExpectedEvent) -> tuple[int, int, str]:
    if event.sensor_id is None:
        return event.at, -1, device_event_key(event.device_id, event.at, event.event_code)
    return event.at, event.sensor_id, event_key(event.sensor_id, event.at, event.event_code)


def _normal(random: Random) -> _Story:
    """Noise inside the range."""
    return _Story(random, 180)


def _spike(random: Random) -> _Story:
    """A sensor passes WARN, stays at CRITICAL for seconds, and returns at once. Another sensor
    jumps within its range and stays there.
    """
    story = _Story(random, 120)
    sensor, first = story.sensor(1), random.randint(30, 50)
    last = first + random.randint(3, 8)
    story.lift(sensor, first, Level.WARN)
    for second in range(first + 1, last + 1):
        story.lift(sensor, second, Level.CRITICAL)
    story.change(sensor, first, Level.NORMAL, Level.WARN)
    story.change(sensor, first + 1, Level.WARN, Level.CRITICAL)
    story.change(sensor, last + CLEAR_AFTER, Level.CRITICAL, Level.NORMAL)
    sensor, jump = story.sensor(2), random.randint(30, 90)
    story.delta(sensor)
    for second in range(jump, 120):
        story.shift(sensor, second, _JUMP)
    story.change(sensor, jump, Level.NORMAL, Level.WARN, "DELTA_SPIKE")
    story.change(sensor, jump + CLEAR_AFTER, Level.WARN, Level.NORMAL)
    return story


def _drift(random: Random) -> _Story:
    """A temperature without noise rises steadily to CRITICAL, stays there, and falls again.

    Values are odd hundredths and bounds are even ones, so no value lies on a bound. The steepest
    ramp comes within a minute of its bound after eleven seconds, when the ten-second trend equals
    the ramp's; before that the trend is smaller. It falls at the same rate. WARN holds from the
    forecast until the value is back inside both ranges. Downward, the other bound is always more
    than a minute away.
    """
    story = _Story(random, 400)
    sensor = story.sensors(2)[0]
    calm, step = random.randrange(2095, 2118, 2), random.randrange(16, 25, 2)
    rise = random.randint(20, 40)
    worst = 3800 + step * random.randint(10, 20) - (3800 - calm) % step
    fall = rise + (worst - calm) // step + random.randint(10, 20)

    def value(second: int) -> int:
        up = min(calm + step * max(0, second - rise), worst)
        return max(calm, min(up, worst - step * (second - fall)))

    for second in range(400):
        story.set(sensor, second, value(second) / 100)
    near = next(s for s in range(rise, fall) if 3800 - value(s) <= FORECAST_S * step)
    critical = next(s for s in range(rise, fall) if value(s) > 3800)
    eased = next(s for s in range(fall, 400) if value(s) <= 3800 - 170)
    inside = next(s for s in range(fall, 400) if value(s) <= 3200 - 110)
    warned = near + FORECAST_AFTER - 1
    story.change(sensor, warned, Level.NORMAL, Level.WARN, "PRED_THRESHOLD_BREACH")
    story.change(sensor, critical, Level.WARN, Level.CRITICAL)
    story.change(sensor, eased + CLEAR_AFTER - 1, Level.CRITICAL, Level.WARN)
    story.change(sensor, inside + CLEAR_AFTER - 1, Level.WARN, Level.NORMAL)
    return story


def _flap(random: Random) -> _Story:
    """A sensor alternates between WARN and its range, is at CRITICAL once, and then settles.

    It never has five quiet seconds while it alternates, except that WARN counts as quiet at
    CRITICAL. CRITICAL clears at the fifth second, which is inside the range, and the next second
    raises WARN again. It flaps from the tenth change to the fifteenth second without a change, so
    every change of level except the first is silent.
    """
    story = _Story(random, 150)
    sensor, first = story.sensor(1), random.randint(20, 40)
    last = first + 2 * random.randint(15, 25)
    worst = first + 2 * random.randint(5, (last - first) // 2 - 3)
    for second in range(first, last + 1, 2):
        story.lift(sensor, second, Level.CRITICAL if second == worst else Level.WARN)
    story.change(sensor, first, Level.NORMAL, Level.WARN)
    story.flapping(sensor, first + FLAPPING_AFTER - 1, begins=True)
    story.change(sensor, worst, Level.WARN, Level.CRITICAL)
    story.change(sensor, worst + CLEAR_AFTER, Level.CRITICAL, Level.NORMAL)
    story.change(sensor, worst + CLEAR_AFTER + 1, Level.NORMAL, Level.WARN)
    story.change(sensor, last + CLEAR_AFTER, Level.WARN, Level.NORMAL)
    story.flapping(sensor, last + 1 + SETTLED_AFTER, begins=False)
    return story


def _offline(random: Random) -> _Story:
    """A device stops for minutes, and so does a single sensor of another one."""
    story = _Story(random, 240)
    last, back = random.randint(20, 50), random.randint(140, 200)
    for second in range(last + 1, back):
        story.skip(1, second)
    story.silence(1, None, last, back)
    sensor, last, back = story.sensor(2), random.randint(20, 50), random.randint(140, 200)
    for second in range(last + 1, back):
        story.take(sensor, second)
    story.silence(2, sensor, last, back)
    return story


def _late(random: Random) -> _Story:
    """Readings of a second, all outside the range, arrive in the packets of later seconds.

    Those that arrive two seconds later are in time, wherever they stand in the packet, because the
    reading that closes their second comes with it. The others are late, and are judged on their
    own: each is one event, which has ended.
    """
    story = _Story(random, 150)
    sensor, second = story.sensor(1), random.randint(20, 30)
    story.excursion(sensor, second, 1, Level.WARN)
    story.draft(1, second + 2).readings.insert(0, story.take(sensor, second))
    behind = [2, *random.sample(range(3, 10), random.randint(3, 5))]
    for seconds in behind:
        second += random.randint(12, 16)
        story.lift(sensor, second, Level.CRITICAL)
        story.draft(1, second + seconds).readings.append(story.take(sensor, second))
        story.change(sensor, second, Level.NORMAL, Level.CRITICAL)
        if seconds == 2:
            story.change(sensor, second + CLEAR_AFTER, Level.CRITICAL, Level.NORMAL)
    second = random.randint(20, 100)
    for sensor in story.sensors(2):
        story.lift(sensor, second, Level.CRITICAL)
        story.change(sensor, second, Level.NORMAL, Level.CRITICAL)
    whole = story.skip(2, second)
    whole.arrival += random.randint(3500, 20_000)
    story.post(whole)
    story.counts.late = len(behind) - 1 + len(whole.readings)
    return story


def _future(random: Random) -> _Story:
    """Readings dated too far ahead and outside the range arrive before valid ones of the same
    sensor. Another device's clock is ahead for some packets. Later valid readings cause events.
    """
    story = _Story(random, 120)
    sensor = story.sensor(1)
    worst = _KINDS[sensor % 10 - 1].value[Level.CRITICAL]
    ahead = [1, *(random.randint(1, _DAY_MS) for _ in range(random.randint(3, 6)))]
    for ms, second in zip(ahead, random.sample(range(20, 60), len(ahead)), strict=True):
        draft = story.draft(1, second)
        draft.readings.insert(0, (sensor, draft.arrival + FUTURE_MS + ms, worst))
    story.excursion(sensor, random.randint(60, 70), random.randint(2, 5), Level.WARN)
    wrong, first = random.randint(3, 10), random.randint(20, 40)
    jumps = story.sensor(2)
    for second in range(first, first + wrong):
        story.lift(jumps, second, Level.CRITICAL)
        draft = story.draft(2, second)
        draft.readings = [(number, ts + _DAY_MS, value) for number, ts, value in draft.readings]
    story.excursion(jumps, random.randint(60, 70), random.randint(2, 5), Level.CRITICAL)
    story.counts.future = len(ahead) + wrong * len(_KINDS)
    return story


def _duplicate(random: Random) -> _Story:
    """All packets of an excursion and some others are sent again. One is sent so late that it is
    no longer detected as a duplicate: its readings are late.
    """
    story = _Story(random, 180)
    first, seconds = random.randint(20, 40), random.randint(3, 6)
    story.excursion(story.sensor(1), first, seconds, Level.CRITICAL)

    def again(device: int, second: int, ms: int) -> None:
        sent = story.draft(device, second)
        story.post(_Draft(device, sent.packet_id, sent.arrival + ms, list(sent.readings)))

    for second in range(first, first + seconds):
        again(1, second, random.randint(1, 20_000))
    again(1, first, (REMEMBERED - 4) * 1000)
    others = random.sample(range(20, 100), random.randint(3, 6))
    for second in others:
        again(2, second, random.choice([0, 1, 1000, 30_000]))
    again(1, first + 1, (REMEMBERED + 4) * 1000)
    story.counts.duplicates = seconds + 1 + len(others)
    story.counts.late = len(_KINDS)
    return story


def _restart_clock(random: Random) -> _Story:
    """A device restarts with its clock a day behind, and corrects it after some packets. Its
    out-of-range readings before the correction are late: they are one event of yesterday.
    """
    story = _Story(random, 120)
    sensor = story.sensor(1)
    off, on, right = random.randint(20, 30), random.randint(33, 36), random.randint(45, 65)
    for second in range(off, on):
        story.skip(1, second)
    for second in range(on, right):
        story.lift(sensor, second, Level.CRITICAL)
        draft = story.draft(1, second)
        draft.readings = [(number, ts - _DAY_MS, value) for number, ts, value in draft.readings]
    story.change(sensor, on - _DAY_MS // 1000, Level.NORMAL, Level.CRITICAL)
    story.excursion(sensor, right + random.randint(0, 9), random.randint(2, 5), Level.CRITICAL)
    story.counts.late = (right - on) * len(_KINDS)
    return story


_MAKERS: dict[Name, Callable[[Random], _Story]] = {
    "normal": _normal,
    "spike": _spike,
    "drift": _drift,
    "flap": _flap,
    "offline": _offline,
    "late": _late,
    "future": _future,
    "duplicate": _duplicate,
    "restart-clock": _restart_clock,
}
