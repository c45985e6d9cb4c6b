"""A part of `python -m bench replay`, in its own process, with the settings in its environment.

`python -m bench.replay_child fill SENSORS PERIOD_MS READINGS START_MS`, or `flow READINGS`, whose
last line of output is the rate.
"""

import sys
from time import time

import numpy as np
from bytewax.testing import run_main

from bench.dataflow_child import NullSink
from bench.meter import Meter
from bench.packets import SENSORS_A_DEVICE, Shape, device_packets, make_topic
from contract.columns import Floats
from contract.errors import IotError
from contract.settings import Settings, load_settings
from dataflows.engine.engine import Times
from dataflows.engine.partition_step import Watch
from dataflows.log.source import PacketSource
from dataflows.readings import Sinks, graph
from ops.replay.spans import find_parts
from rules.history import LiveRules
from runtime.kafka import kafka_access
from runtime.log import configure_log
from sinks.events import events_sink

_MEAN, _DEVIATION = 20.0, 0.1
_OFTEN = 1 / 5_000
"""Probability per reading that a sensor leaves its range."""
_LASTS = 6
"""Number of readings until it returns."""


def _fill(settings: Settings, shape: Shape, start_ms: int) -> None:
    packets = device_packets(shape, start_ms, _Values().next)
    make_topic(kafka_access(settings), settings.kafka_topic, packets)


class _Values:
    """Low noise, and occasionally a sensor that is 1 to 8 too high for a while."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(2)
        self._left: dict[int, tuple[Floats, Floats]] = {}
        """Per device: for how many more readings its sensors are out of range, and by how much."""

    def next(self, device: int) -> Floats:
        """The next value of each of the device's sensors."""
        random, size = self._random, SENSORS_A_DEVICE
        left, height = self._left.setdefault(device, (np.zeros(size), np.zeros(size)))
        begins = (left == 0) & (random.random(size) < _OFTEN)
        if begins.any():
            left[begins] = _LASTS
            height[begins] = random.uniform(1, 8, begins.sum())
        value = random.normal(_MEAN, _DEVIATION, size) + np.where(left > 0, height, 0.0)
        np.maximum(left - 1, 0, out=left)
        return value


def _flow(settings: Settings, readings: int) -> float:
    """The flow over the whole topic, as in production, except that only events are stored."""
    book = LiveRules(settings)
    book.load()
    meter = Meter(readings)
    parts = find_parts(settings, None, None, None, int(time() * 1000))
    source = PacketSource(
        kafka_access(settings),
        settings.kafka_topic,
        "earliest",
        lambda: False,
        spans={part.partition: part.span for part in parts},
    )
    null = NullSink()
    sinks = Sinks(NullSink(meter), null, null, events_sink(settings), null)
    run_main(graph(source, Watch(book, Times()), sinks))  # type: ignore[no-untyped-call]
    return meter.rate()


def main() -> None:
    """Run the part that the command line names."""
    configure_log()
    what, *numbers = sys.argv[1:]
    try:
        settings = load_settings()
        if what == "fill":
            sensors, period_ms, readings, start_ms = map(int, numbers)
            _fill(settings, Shape(sensors, period_ms, readings), start_ms)
        else:
            print(_flow(settings, int(numbers[0])))
    except IotError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
