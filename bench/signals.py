"""Healthy signals of 24 kinds: nothing is wrong with the sensors that send them.

A kind is a function of a random generator and of the times of N panes in seconds, a constant
interval apart; it returns (N,) values. Cycles follow the clock, so they look different at each
interval; noise and dwell times follow the panes where the clock would leave nothing to see.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from contract.columns import Floats, Ints

Signal = Callable[[Generator, Floats], Floats]
_DAY = 86_400.0


def _interval(t: Floats) -> float:
    return float(t[1] - t[0])


def _ar1(random: Generator, n: int, keep: float) -> Floats:
    """Autoregressive noise of standard deviation 1."""
    shocks = random.normal(size=n) * np.sqrt(1.0 - keep * keep)
    shocks[0] = random.normal()
    values = np.empty(n)
    last = 0.0
    for index, shock in enumerate(shocks.tolist()):
        last = keep * last + shock
        values[index] = last
    return values


def _daily(random: Generator, t: Floats) -> Floats:
    """A cycle of a day between -1 and 1, at a random phase."""
    return np.asarray(np.sin(2 * np.pi * (t / _DAY + random.random())))


def _segments(random: Generator, t: Floats, *lengths: float) -> Ints:
    """(N,) number of each pane's segment. Segments last random times; their mean lengths in seconds
    take turns.
    """
    least = _interval(t)
    mean = np.resize(np.maximum(lengths, least), int(2 * t[-1] / np.mean(lengths)) + 200)
    ends = np.cumsum(least + random.exponential(mean - 0.99 * least))
    return np.asarray(np.searchsorted(ends, t - t[0], "right"), np.int64)


def _white_noise(random: Generator, t: Floats) -> Floats:
    return random.normal(20.0, 1.0, len(t))


def _rounded_noise(random: Generator, t: Floats) -> Floats:
    return np.round(random.normal(20.0, 0.4, len(t)), 2)


def _fast_noise(random: Generator, t: Floats) -> Floats:
    return 50.0 + 3.0 * _ar1(random, len(t), 0.7)


def _slow_noise(random: Generator, t: Floats) -> Floats:
    return 50.0 + 3.0 * _ar1(random, len(t), 0.99)


def _random_walk(random: Generator, t: Floats) -> Floats:
    return 100.0 + np.cumsum(random.normal(0.0, 0.1, len(t)))


def _daily_cycle(random: Generator, t: Floats) -> Floats:
    return 18.0 + 6.0 * _daily(random, t) + random.normal(0.0, 0.3, len(t))


def _weekly_cycle(random: Generator, t: Floats) -> Floats:
    """Working days differ from weekends."""
    weekend = (t / _DAY + random.integers(7)) % 7 >= 5
    load = np.where(weekend, 20.0, 60.0 + 30.0 * _daily(random, t))
    return np.asarray(load + random.normal(0.0, 2.0, len(t)))


def _coarse(random: Generator, t: Floats) -> Floats:
    """A daily cycle in whole degrees."""
    return np.round(20.0 + 4.0 * _daily(random, t) + random.normal(0.0, 0.4, len(t)))


def _on_off(random: Generator, t: Floats) -> Floats:
    dwell = max(600.0, 12 * _interval(t))
    return np.asarray(_segments(random, t, 2 * dwell, dwell) % 2, np.float64)


def _door(random: Generator, t: Floats) -> Floats:
    """Seldom open, for up to a minute."""
    closed = max(5400.0, 60 * _interval(t))
    return np.asarray(_segments(random, t, closed, 25.0) % 2, np.float64)


def _compressor(random: Generator, t: Floats) -> Floats:
    """On and off at regular times, with noise."""
    period = max(900.0, 15 * _interval(t))
    on = (t / period + random.random()) % 1.0 < 0.4
    return np.asarray(np.where(on, 450.0, 5.0) + random.normal(0.0, 3.0, len(t)))


def _counter(random: Generator, t: Floats) -> Floats:
    """Counts all day, and restarts at midnight."""
    steps = random.poisson(0.2 * min(_interval(t), 60.0), len(t)).astype(np.float64)
    total = np.cumsum(steps)
    day = np.floor(t / _DAY + random.random())
    first = np.maximum.accumulate(np.where(np.diff(day, prepend=day[0]) > 0, total, 0.0))
    return total - first


def _sawtooth(random: Generator, t: Floats) -> Floats:
    """A tank that empties slowly and is refilled at once."""
    period = max(7200.0, 40 * _interval(t)) * random.uniform(0.8, 1.2)
    level = 90.0 - 70.0 * ((t / period + random.random()) % 1.0)
    return np.asarray(level + random.normal(0.0, 0.4, len(t)))


def _gusty_wind(random: Generator, t: Floats) -> Floats:
    """Gusts multiply a slowly changing wind."""
    n = len(t)
    gust = np.exp(0.4 * _ar1(random, n, 0.95) + 0.25 * _ar1(random, n, 0.998))
    return np.round(4.0 * gust + np.abs(random.normal(0.0, 0.3, n)), 1)


def _load(random: Generator, t: Floats) -> Floats:
    """Machines that start and stop: steps of random height and duration."""
    segment = _segments(random, t, max(1200.0, 25 * _interval(t)))
    height = random.gamma(2.0, 20.0, int(segment[-1]) + 1)
    return np.asarray(height[segment] + random.normal(0.0, 0.5, len(t)))


def _solar(random: Generator, t: Floats) -> Floats:
    """Exactly 0 for half a day; clouds by day."""
    clouds = np.clip(0.8 + 0.3 * _ar1(random, len(t), 0.98), 0.1, 1.0)
    return np.asarray(np.round(np.maximum(_daily(random, t), 0.0) * 800.0 * clouds, 1))


def _saturated(random: Generator, t: Floats) -> Floats:
    """A cycle that is cut off at the sensor's limit."""
    cycle = 90.0 + 20.0 * _daily(random, t) + random.normal(0.0, 0.5, len(t))
    return np.asarray(np.minimum(cycle, 100.0))


def _flicker(random: Generator, t: Floats) -> Floats:
    """A rain gauge: 0, with short showers of random strength."""
    dry = max(14_400.0, 60 * _interval(t))
    segment = _segments(random, t, dry, max(1200.0, 2 * _interval(t)))
    wet = (segment % 2 == 1) & (random.random(len(t)) < 0.3)
    return np.asarray(np.where(wet, np.round(random.exponential(2.0, len(t)), 1), 0.0))


def _heavy_tails(random: Generator, t: Floats) -> Floats:
    return 10.0 + random.standard_t(2, len(t))


def _volatile(random: Generator, t: Floats) -> Floats:
    """Noise whose size changes over hours."""
    size = np.exp(0.7 * _ar1(random, len(t), 0.999))
    return np.asarray(30.0 + size * random.normal(size=len(t)))


def _drift(random: Generator, t: Floats) -> Floats:
    return np.asarray(5.0 + t / max(3600.0, 50 * _interval(t)) + random.normal(0.0, 0.5, len(t)))


def _constant(random: Generator, t: Floats) -> Floats:
    return np.full(len(t), 21.5)


def _glitches(random: Generator, t: Floats) -> Floats:
    """Constant, with a wrong value every few thousand panes."""
    wrong = random.random(len(t)) < 1 / 3000
    return np.asarray(np.where(wrong, 21.5 + random.normal(0.0, 20.0, len(t)), 21.5))


def _traffic(random: Generator, t: Floats) -> Floats:
    """Counts of visitors with a daily rhythm."""
    return random.poisson(np.maximum(8.0 + 7.5 * _daily(random, t), 0.0)).astype(np.float64)


def _office(random: Generator, t: Floats) -> Floats:
    """Busy from eight to six on working days, nearly idle otherwise."""
    day = t / _DAY + random.integers(7) + random.random()
    busy = (day % 7 < 5) & (day % 1.0 > 1 / 3) & (day % 1.0 < 3 / 4)
    noise = random.normal(0.0, 1.0, len(t))
    return np.asarray(np.where(busy, 600.0 + 80.0 * _ar1(random, len(t), 0.98), 420.0 + noise))


SIGNALS: dict[str, Signal] = {
    "white noise": _white_noise,
    "rounded noise": _rounded_noise,
    "fast noise, AR(1)": _fast_noise,
    "slow noise, AR(1)": _slow_noise,
    "random walk": _random_walk,
    "daily cycle": _daily_cycle,
    "daily and weekly cycle": _weekly_cycle,
    "whole degrees": _coarse,
    "on and off": _on_off,
    "seldom-opened door": _door,
    "compressor": _compressor,
    "counter with resets": _counter,
    "sawtooth": _sawtooth,
    "gusty wind": _gusty_wind,
    "load": _load,
    "solar": _solar,
    "saturated": _saturated,
    "sparse flicker": _flicker,
    "heavy tails": _heavy_tails,
    "volatile noise": _volatile,
    "drift": _drift,
    "constant": _constant,
    "rare glitches": _glitches,
    "traffic": _traffic,
    "office": _office,
}
"""By name, as the table shows them."""
