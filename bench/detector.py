"""The light detector in array form: panes per second, 10 000 sensors, one core."""

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from contract.table import bytes_of
from ml.online.level_noise import LevelNoise

SENSORS = 10_000
WARM_UP, STEPS = 150, 60
"""Steps before the measurement, to get past the grace period, and steps per round."""


@dataclass(frozen=True, slots=True)
class Result:
    """Medians and ranges over the rounds."""

    figures: dict[str, float]
    rows: list[tuple[str, float, float, float]]
    """(what, median panes/s, minimum, maximum)"""


def run(rounds: int) -> Result:
    """Measure a pane for every sensor, for every other one, and for a random tenth, in turn."""
    random = np.random.default_rng(0)
    every = np.arange(SENSORS)
    plans = {
        "every sensor": [every],
        "every other sensor": [every[::2], every[1::2]],
        "one sensor in ten": [
            np.sort(random.choice(SENSORS, SENSORS // 10, replace=False)) for _ in range(10)
        ],
    }
    values = random.normal(20.0, 1.0, (STEPS, SENSORS))
    detectors = {name: LevelNoise() for name in plans}
    seen: dict[str, list[float]] = {name: [] for name in plans}
    now = 0
    for detector in detectors.values():
        detector.grow(SENSORS)
        for step in range(WARM_UP):
            now += 1000
            detector.score_then_learn(every, np.full(SENSORS, now), values[step % STEPS])
    for number in range(-1, rounds):
        for name, rows in plans.items():
            panes, begun = 0, perf_counter()
            for step in range(STEPS):
                row = rows[step % len(rows)]
                now += 1000
                end = np.full(len(row), now)
                detectors[name].score_then_learn(row, end, values[step, : len(row)])
                panes += len(row)
            if number >= 0:  # the first round warms up
                seen[name].append(panes / (perf_counter() - begun))
    rows_of = [(name, median(rates), min(rates), max(rates)) for name, rates in seen.items()]
    keys = ("panes_per_s", "panes_per_s_half", "panes_per_s_tenth")
    figures = {key: round(rate) for key, (_, rate, _, _) in zip(keys, rows_of, strict=True)}
    size = bytes_of({"light": detectors["every sensor"]})
    return Result(figures | {"bytes_per_sensor": size / SENSORS}, rows_of)
