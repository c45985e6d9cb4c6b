"""Converts engine states of versions 3 to 5, which were tuples, to the present tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from contract.errors import SetupError
from contract.table import Snapshot

_READ = (3, 4, 5)
_PERIODS = (60_000, 300_000, 3_600_000)
_LEVELS = (
    "level", "quiet", "clear_after", "since", "changed_at", "kind", "given", "changes", "flapping",
)  # fmt: skip
_WINDOW = (
    "end", "count", "mean", "minimum", "maximum", "first",
    "time", "time_time", "time_value", "value_value",
)  # fmt: skip
_TAIL = ("count", "quantile", "exponent", "spread")
_CALIBRATION = ("count", "low", "high")
_USUAL = (*_TAIL, *(f"calibration.{name}" for name in _CALIBRATION))
_LEVEL_NOISE = (
    "seen", "before", "short", "steps", "unusual", "settled", "cadence.end", "cadence.interval",
    *(f"{part}.{name}" for part in ("level", "noise") for name in ("mean", "size", *_TAIL)),
    *(f"calibration.{name}" for name in _CALIBRATION),
)  # fmt: skip
_SELF_SIMILARITY = (
    "seen", "value", "step", "length", "bucket", "sum", "count", "held",
    "cadence.end", "cadence.interval",
    *(f"{part}.{name}" for part in ("panes", "hours", "today") for name in _USUAL),
)  # fmt: skip


def as_tables(snapshot: tuple[Any, ...]) -> dict[str, Snapshot]:
    """Convert a state to snapshots of tables, by name.

    Raises:
        SetupError: the version of the state is no longer supported.
    """
    if snapshot[0] not in _READ:
        raise SetupError(
            "the recovery directory was written by another version of this program; this one "
            f"reads versions {_READ[0]} to {_READ[-1]} of the engine's state: start with a new "
            "directory. The flow then reads the topic from START_FROM; stored data is not stored "
            "again"
        )
    version, rows, panes, windows, verdicts, levels, no_data, rollups, predictions = snapshot
    arrival, sensor_id, device_id, device, duplicates = rows
    heard = [dict(zip(("heard_at", "gaps", "since"), state, strict=True)) for state in no_data[:2]]
    tables = {
        "partition": {"arrival": arrival, "duplicates": duplicates},
        "sensors": {"id": sensor_id, "device": device},
        "devices": {"id": device_id},
        "windows": {"kept": (_WINDOW, windows)},
        "levels": dict(zip(_LEVELS, levels, strict=True)),
        "no_data_sensors": heard[0],
        "no_data_devices": heard[1] | {"returned": no_data[2]},
    }
    tables |= _panes(version, panes) | _predictions(predictions) | _verdicts(version, verdicts)
    for period, state in zip(_PERIODS, rollups, strict=True):
        tables[f"rollups/{period}"] = _rollups(state)
    return tables


def _panes(version: int, state: Sequence[Any]) -> dict[str, Snapshot]:
    if version == 3:  # in milliseconds, without `seq`: give each a unique one
        *columns, ts, value, late, future = state
        state = (*columns, ts * 1000, -1 - np.arange(len(ts)), value, late, future, 0)
    last_arrival, watermark, closed_until, row, device, ts, seq, value, *counts = state
    return {
        "panes": {
            "last_arrival": last_arrival,
            "watermark": watermark,
            "closed_until": closed_until,
            **dict(zip(("late", "future", "repeated"), counts, strict=True)),
        },
        "open_readings": {
            "row": row.astype(np.int32),
            "device": device.astype(np.int32),
            "ts": ts,
            "seq": seq.astype(np.int32),
            "value": value,
        },
    }


def _rollups(state: Sequence[Any]) -> Snapshot:
    start, count, told, sums = state
    fields = ("total", "minimum", "maximum", "last", "device")
    return {"start": start, "count": count, "told": told, "sums": (fields, sums)}


def _predictions(state: Sequence[Any]) -> dict[str, Snapshot]:
    period, rollups, newest, age, value, since = state
    return {
        "predictions": {"since": since},
        f"open_predictions/{period}": {
            "newest": newest,
            "age": age.astype(np.uint16),
            "value": value,
        },
        f"predicted_periods/{period}": _rollups(rollups),
    }


def _verdicts(version: int, state: Sequence[Any]) -> dict[str, Snapshot]:
    streaks, seen, unusual, detector, *memories = state
    tables: dict[str, Snapshot] = {
        "verdicts": {"streaks": streaks, "seen": seen, "unusual": unusual}
    }
    if detector is not None:
        tables |= _detector(detector)
    if version == 5:
        ((rules, end, mean),) = memories[0].values()
        ids, spans = np.array(rules, np.int64).reshape(-1, 2).T
        tables["rate_memory"] = {"rule_id": ids, "span": spans, "end": end, "mean": mean}
    return tables


def _detector(state: Sequence[Any]) -> dict[str, Snapshot]:
    _, sensor_id, row, deep_row, _, (_, light), (_, deep, *lags) = state
    tables = {
        "detector": {"sensor_id": sensor_id, "row": row, "deep_row": deep_row},
        "level_noise": {"numbers": (_LEVEL_NOISE, light)},
        "self_similarity": {"numbers": (_SELF_SIMILARITY, deep)},
    }
    for name, lag in (("panes", lags[:3]), ("means", lags[3:])):
        columns = dict(zip(("count", "past", "unlike"), lag, strict=True))
        tables[f"self_similarity_{name}"] = columns
    return tables
