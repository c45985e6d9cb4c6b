"""Streams of records for the backlog lane: outages, and what the devices make up for afterwards."""

from random import Random
from typing import Any

_SENSORS = {1: (1, 3), 2: (2, 4)}
# around the bounds of the rules: warnings at 36.017 and 10.013, critical at 42.019 and 5.011;
# of sensor 4 at 38.031 and 44.1003, and at 21.0
_MOODS = {
    "calm": [25.0, 26.5, 24.2],
    "near": [34.6, 34.8, 35.9],  # inside the bounds, and about where they are reset
    "warn": [36.5, 37.0, 39.0, 40.0],
    "critical": [43.0, 44.5, 47.0],
    "low": [9.5, 8.0, 10.2],
    "lowest": [4.0, 2.5],
    "equal": [21.0, 21.0, 22.5],
    "swing": [25.0, 39.0, 46.0, 8.0],
}


def late_stream(seed):
    """Two devices that sample several times a second to once a minute, lose their connection for
    up to 40 min, and send what they kept in some order; heartbeats let everything close."""
    random = Random(seed)
    start, seconds = random.choice([1_000_000, 3_500_000]), random.choice([300, 900, 4000, 7200])
    sent = [row for device in _SENSORS for row in _device(random, device, start, 1000 * seconds)]
    records: list[Any] = []
    now = start
    for number, (at, device, readings) in enumerate(sorted(sent, key=lambda row: row[0])[:370]):
        if random.random() < 0.05:
            records.append((random.randint(now, at), None, "", []))
        packet_id = f"{device}.{number}" if random.random() < 0.98 else f"{device}.{number - 1}"
        records.append((at - random.choice([0, 0, 0, 600]), device, packet_id, readings))
        now = at
    ends = 3000, 9000, 30_000, 61_000, 300_000, 601_000, 1_300_000
    return records + [(now + after, None, "", []) for after in ends]


def _device(random, device, start, length):
    """What a device sends: (arrival, device, readings)."""
    kind = random.choice(["steady", "steady", "batches", "gateway", "on change"])
    packets = _packets(random, kind, device, start, start + length)
    outages, at, last = [], start, packets[-1][0]
    long = [15, 60, 300, 900] if last - start < 1_000_000 else [300, 900, 2400, 2400]
    while at < last and random.random() < 0.8:
        begin = at + random.randrange(5000, max(6000, (last - at) // 2))
        at = begin + 1000 * random.choice(long)
        outages.append((begin, at, []))
    records = []
    for at, readings in packets:
        kept = next((backlog for begin, end, backlog in outages if begin <= at < end), None)
        if kept is not None:
            kept.append(readings)
        else:
            records.append((at + random.choice([0, 0, 50, 700]), readings))
    for _, end, backlog in outages:
        records += _made_up_for(random, end, backlog)
    for at, readings in random.sample(records, min(len(records), len(records) // 20 + 1)):
        again = [*readings, *random.choice(records)[1]]  # in another packet
        records.append((at + random.choice([0, 300, 4000, 70_000, 1_500_000]), again[:8]))
    for at, readings in records:
        if random.random() < 0.5:
            random.shuffle(readings)
        if random.random() < 0.01:
            readings += [(sensor, at + 300_001, value) for sensor, _, value in readings[:1]]
    return [(at, device, readings) for at, readings in records]


def _made_up_for(random, at, backlog):
    """(arrival, readings) of the packets that were kept until `at`."""
    order = random.choice(["live first", "oldest first", "newest first", "shuffled"])
    if order == "newest first":
        backlog.reverse()
    elif order == "shuffled":
        random.shuffle(backlog)
    elif order == "live first":
        backlog = backlog[-1:] + backlog[:-1]
        at += random.choice([0, 2000, 20_000])
    size = random.choice([1, 1, 5, 20]) * (1 + len(backlog) // 100)
    pace = random.choice([0, 100, 1000, 5000])
    parts = [backlog[first : first + size] for first in range(0, len(backlog), size)]
    return [(at + pace * n, [r for packet in part for r in packet]) for n, part in enumerate(parts)]


def _packets(random, kind, device, start, end):
    """(time, readings) of the packets that a device makes; one without readings is a heartbeat."""
    signals = {sensor: _signal(random, start, end) for sensor in _SENSORS[device]}
    ahead = random.choice([0, 0, 0, random.randrange(299_000)])  # its clock
    steps = {"gateway": [130, 250, 400], "on change": [8000, 40_000]}
    step = random.choice(steps.get(kind, [1000, 2000, 5000, 10_000, 30_000, 60_000]))
    flush = random.choice([2000, 5000, 15_000]) if kind in ("gateway", "batches") else 1
    packets: dict[int, Any] = {}
    at = start + random.randrange(1000)
    for _ in range(600):
        changed = [sensor for sensor in signals if random.random() < 0.97]
        if kind == "on change":
            changed = [sensor for sensor in signals if random.random() < 0.4]
        readings = [(sensor, at + ahead, signals[sensor](at)) for sensor in changed]
        packets.setdefault((at // flush + 1) * flush, []).extend(readings)
        at += random.choice([step // 8, step, step, 12 * step]) if kind == "on change" else step
        if at >= end:
            break
    return list(packets.items())


def _signal(random, start, end):
    """A value over time: steps between moods, with short spikes."""
    moods, spikes = {}, random.choice([0, 0.02, 0.1])
    while start < end:
        moods[start] = random.choice(["calm", "calm", "calm", *_MOODS])
        start += random.choice([5000, 20_000, 60_000, 200_000, 900_000])

    def value(at):
        mood = moods[max(begin for begin in moods if begin <= at)]
        if random.random() < spikes:
            mood = random.choice(["warn", "critical", "lowest", "equal"])
        return random.choice(_MOODS[mood])

    return value
