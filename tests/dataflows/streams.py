"""Streams of records for the engine's tests, and a partition that processes them in pieces."""

import pickle
from dataclasses import asdict
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from contract.packet import Packet, pack
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Engine, Times
from dataflows.log.decode import record_columns
from rules.columns import Rules
from rules.panes import Window
from rules.tables import RuleSet
from rules.words import Names

NO_RULES = Rules(RuleSet())
NAMES = Names("en")
TIMES = Times()


def piece(*records):
    """Columns of records (arrival, device, packet_id, [(sensor, ts, value)]), times in
    milliseconds; a heartbeat's device is None."""
    packets = [
        None
        if device is None
        else Packet(
            packet_id=packet_id,
            device_id=device,
            device_uuid="",
            received_at=0,
            sensor_id=[sensor for sensor, _, _ in readings],
            ts=[round(ts * 1000) for _, ts, _ in readings],
            device_ts=[round(ts * 1000) for _, ts, _ in readings],
            value=[value for _, _, value in readings],
            seq=[0] * len(readings),
        )
        for _, device, packet_id, readings in records
    ]
    return columns_of([record[0] for record in records], packets)


def columns_of(arrivals, packets):
    """Columns of packets; None is a record without readings."""
    return record_columns(arrivals, [packet and pack(packet) for packet in packets])


class Partition:
    """One partition: marks duplicates, runs the engine and collects the results in lists."""

    def __init__(self, times=TIMES, rules=NO_RULES, detector=None, names=NAMES):
        self.times, self.rules, self.detector, self.names = times, rules, detector, names
        self.duplicates, self.engine = DuplicateLogic(None), self.new_engine()
        self.windows, self.events, self.rollups, self.predictions = [], [], [], []
        self.late, self.late_windows, self.stale = [], [], set()

    def new_engine(self):
        return Engine(self.times, self.detector() if self.detector else None)

    def restart(self):
        """Continue like a new process, from a pickled snapshot."""
        duplicates, engine = pickle.loads(  # noqa: S301
            pickle.dumps((self.duplicates.snapshot(), self.engine.snapshot()))
        )
        self.duplicates, self.engine = DuplicateLogic(duplicates), self.new_engine()
        self.engine.restore(engine)

    def step(self, *records):
        ((marked,), _) = self.duplicates.on_batch([piece(*records)])
        outcome = self.engine.step(marked, self.rules, self.names)
        ids = outcome.sensor_id
        self.windows += _windows(ids, outcome.panes, outcome.windows)
        for closing in outcome.closings:
            self.late_windows += _windows(ids[closing.sensor], closing.panes, closing.windows)
        self.stale |= set(_rows(outcome.stale))
        self.events += outcome.events
        self.rollups += _rows(outcome.rollups)
        self.predictions += _rows(outcome.predictions)
        late = outcome.late
        self.late += zip(
            ids[late.row].tolist(), (late.ts // 1000).tolist(), late.value.tolist(), strict=True
        )

    def run(self, records, cuts=(), *, restarts=False):
        """Process the records in pieces split at `cuts`; with `restarts`, restart before each."""
        bounds = [0, *sorted(min(cut, len(records)) for cut in cuts), len(records)]
        for first, last in pairwise(bounds):
            if first == last:
                continue
            if restarts:
                self.restart()
            self.step(*records[first:last])
        return self

    def found(self):
        """All results that must not depend on cuts, in a defined order."""
        return (
            sorted(self.windows),
            sorted(self.events, key=lambda event: (event.at, event.event_key)),
            sorted(self.rollups),
            sorted(self.predictions),
            sorted(self.late),
            sorted(self.late_windows),
            self.engine.counts,
        )


def laid_open(snapshot):
    """A snapshot as comparable values."""
    if isinstance(snapshot, np.ndarray):
        return (snapshot.dtype.str, snapshot.shape, snapshot.tobytes())
    if isinstance(snapshot, dict):
        return {key: laid_open(value) for key, value in snapshot.items()}
    if isinstance(snapshot, list | tuple):
        return [laid_open(item) for item in snapshot]
    return snapshot


def heartbeat(arrival):
    """A heartbeat at this arrival time."""
    return (arrival, None, "", [])


def each_second(*values, sensor=1, device=1, start=1000):
    """One record per second with one reading at its arrival; None is a record without readings.
    The pane of the first ends at `start` + 1000."""
    arrivals = range(start, start + 1000 * len(values), 1000)
    return [
        (at, device, f"{device} {at}", [] if value is None else [(sensor, at, float(value))])
        for at, value in zip(arrivals, values, strict=True)
    ]


HELD_MS = 60_000
"""How long a pane that may get more readings stays open if the gap of its device is unknown."""


def closed(records, after_ms=TIMES.idle_ms):
    """The records, followed by a heartbeat `after_ms` later, which closes every pane. Readings that
    are closer together than the rest of their pane need `HELD_MS`.
    """
    return [*records, heartbeat(max(record[0] for record in records) + after_ms)]


def _windows(ids, panes, windows):
    rows = []
    for name in ("w1", "w5", "w10"):
        window = getattr(windows, name)
        columns = [getattr(window, cell).tolist() for cell in Window.__slots__[:-1]]
        keys = ids[panes.row].tolist(), panes.end.tolist()
        rows += [(sensor, name, *rest) for sensor, *rest in zip(*keys, *columns, strict=True)]
    return rows


def _rows(columns):
    return list(zip(*(column.tolist() for column in asdict(columns).values()), strict=True))


def _values():
    """Values around the bounds of the rules in the tests, and never equal to one."""
    return st.one_of(
        st.sampled_from([20.0, 21.0, 35.0, 38.5, 41.0, 45.0, 12.0, 8.0, 0.0]),
        st.integers(-300, 700).map(lambda tenths: tenths / 10),
    )


_SKEW = st.sampled_from(
    [0, 0, 0, 0, -1, -400, -1000, -2500, -7000, 700, 300_000, 300_001, 10**9, -86_400_000]
)
_PAUSE = st.sampled_from([0, 1, 300, 999, 1000, 1000, 1000, 2999, 3000, 9000, 31_000, 70_000])


@st.composite
def streams(draw, most=30):
    """Out of order, duplicates, late, future, gaps, idle, silent, heartbeats, moved sensors."""
    records, now = [], draw(st.sampled_from([1_000_000, 59_000, 3_599_500]))
    steady = draw(st.booleans())
    for number in range(draw(st.integers(1, most))):
        now += 1000 if steady and draw(st.integers(0, 9)) else draw(_PAUSE)
        arrival = now - draw(st.sampled_from([0, 0, 0, 500]))
        if draw(st.integers(0, 5)) == 0:
            records.append((arrival, None, "", []))
            continue
        packet_id = str(draw(st.sampled_from([number, number, number, number - 1, 0])))
        reading = st.tuples(
            st.integers(1, 4),
            _SKEW.map(lambda ms, arrival=arrival: max(0, arrival + ms)),
            _values(),
        )
        readings = draw(st.lists(reading, max_size=6))
        device = draw(st.integers(1, 2))
        if draw(st.integers(0, 9)):  # sensors seldom move
            readings = [reading for reading in readings if reading[0] % 2 == device - 1]
        records.append((arrival, device, packet_id, readings))
    return records


def long_stream(seed):
    """Like `streams`, of hundreds of records: two devices at a steady pace that swing around the
    bounds, drift, jump, fall silent, repeat themselves and lose single sensors."""
    random = Random(seed)
    records: list[Any] = []
    now = random.choice([1_000_000, 3_500_000])
    period = random.choice([1000, 1000, 2000, 7000])
    silent_until, mood = {}, {}
    for number in range(random.randint(50, 250)):
        now += period if random.random() < 0.9 else random.choice([0, 10, 500, 3000, 9000, 40_000])
        if random.random() < 0.1:
            records.append((now, None, "", []))
        for device in (1, 2):
            if random.random() < 0.01:
                silent_until[device] = now + random.choice([20_000, 45_000, 400_000])
            if silent_until.get(device, 0) > now or random.random() < 0.03:
                continue
            readings = []
            for sensor in ((1, 3), (2, 4))[device - 1]:
                if random.random() < 0.02:
                    silent_until[-sensor] = now + random.choice([20_000, 45_000, 400_000])
                if silent_until.get(-sensor, 0) > now:
                    continue
                if random.random() < 0.05:
                    mood[sensor] = random.choice(["still", "swing", "rise", "far", "noise"])
                value = {
                    "still": 21.0,
                    "swing": random.choice([20.0, 40.0]),
                    "rise": 20.0 + now // 1000 % 40 / 2,
                    "far": 45.5,
                    "noise": round(random.gauss(25, 8), 2),
                }[mood.get(sensor, "still")]
                skew = random.choice([0] * 12 + [-600, -1500, -20_000, 400_000])
                readings += [(sensor, now + skew + random.choice([0, 0, 5, 300]), value)]
                if random.random() < 0.2:
                    readings.append((sensor, now + random.choice([0, 100, 900]), value + 1))
            packet_id = f"{device}.{number}" if random.random() < 0.97 else f"{device}.{number - 1}"
            records.append((now - random.choice([0, 0, 0, 700]), device, packet_id, readings))
            if random.random() < 0.003:
                records.append((now, 3 - device, f"moved {number}", [(1, now, 21.0)]))
    return records
