"""The baseline: the three windows, written with Bytewax's own source and operators.

It does less than our flow: no levels, no events, no duplicates, no arrival time; only count, mean,
minimum, maximum and last value of each window of each sensor.

A log is read faster or slower than it was written. Bytewax's clock adds elapsed wall-clock time to
a sensor's watermark. If reading is slower than writing was, many readings are late: they go to
the `late` stream instead of a window, and windows are opened and closed several times. With a fixed
clock, nothing is late, and each reading is folded into all 16 windows it belongs to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import (
    EventClock,
    SlidingWindower,
    TumblingWindower,
    Windower,
    fold_window,
)
from bytewax.outputs import Sink

from bench.meter import Meter
from contract.packet import decode, unpack
from runtime.kafka import KafkaAccess

_ALIGN_TO = datetime(2026, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_WINDOWERS: dict[str, Windower[Any]] = {
    "w1": TumblingWindower(length=_SECOND, align_to=_ALIGN_TO),
    "w5": SlidingWindower(length=5 * _SECOND, offset=_SECOND, align_to=_ALIGN_TO),
    "w10": SlidingWindower(length=10 * _SECOND, offset=_SECOND, align_to=_ALIGN_TO),
}


class Reading(NamedTuple):
    """One reading; the key is its sensor."""

    ts: datetime
    value: float


@dataclass(slots=True)
class BuiltinWindow:
    """The aggregates of one window of one sensor."""

    count: int = 0
    mean: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    last: float = 0.0


def builtin_flow(
    kafka: KafkaAccess, topic: str, meter: Meter, sink: Sink[Any], now: Callable[[], datetime]
) -> Dataflow:
    """The dataflow. Readings are counted after the decoder, before the windows."""

    def readings(message: Any) -> Iterator[tuple[str, Reading]]:
        assert isinstance(message, KafkaSourceMessage)  # the source raises on errors
        packet = unpack(decode(message.value))
        meter.count(len(packet.ts))
        for sensor_id, ts, value in zip(packet.sensor_id, packet.ts, packet.value, strict=True):
            yield str(sensor_id), Reading(datetime.fromtimestamp(ts / 1_000_000, UTC), value)

    flow = Dataflow("builtin")
    messages = op.input("consume", flow, _source(kafka, topic))
    # KafkaSourceMessage
    keyed = op.flat_map("decode", messages, readings)
    # (sensor_id, Reading)
    for name, windower in _WINDOWERS.items():
        clock: EventClock[Reading] = EventClock(
            ts_getter=lambda reading: reading.ts,
            wait_for_system_duration=_SECOND,
            now_getter=now,
            to_system_utc=lambda _: None,
        )
        windows = fold_window(name, keyed, clock, windower, BuiltinWindow, _fold, _merge)
        # (sensor_id, (window_id, BuiltinWindow))
        op.output(f"store_{name}", windows.down, sink)
    return flow


def _source(kafka: KafkaAccess, topic: str) -> KafkaSource:
    return KafkaSource(
        kafka.brokers.split(","), [topic], tail=False, add_config=dict(kafka.security)
    )


def _fold(window: BuiltinWindow, reading: Reading) -> BuiltinWindow:
    window.count += 1
    window.mean += (reading.value - window.mean) / window.count
    window.minimum = min(window.minimum, reading.value)
    window.maximum = max(window.maximum, reading.value)
    window.last = reading.value
    return window


def _merge(window: BuiltinWindow, other: BuiltinWindow) -> BuiltinWindow:
    raise NotImplementedError("tumbling and sliding windows are never merged")
