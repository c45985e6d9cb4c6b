"""Rates: the mean rises or falls by more than a bound per minute, measured over a time span.

Rows of `rate_thresholds`. A pane is compared with the sensor's latest pane that ended at least one
span earlier. If that pane ended more than two spans earlier, the rate is unknown. With a span of
one minute, a rise of 5 °C since one minute ago is a rate of 5 °C per minute.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from contract.level import Level
from contract.table import ROWS, column
from rules.kind import (
    CLEAR_AFTER,
    LEVELS,
    Cause,
    Closed,
    Id,
    Judged,
    Kind,
    Memory,
    Severity,
    Source,
    Texts,
    Told,
    check_bounds,
    checked_count,
    checked_row,
    or_inf,
)
from rules.words import duration, quantity

_TABLE = "rate_thresholds"
_KEPT = 61
"""Panes kept for each rule: one for each sixtieth of the span."""
_MINUTE_MS = 60_000.0


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Raises its level when the mean rises or falls by more than a bound per minute. None: no bound
    in that direction.
    """

    table: str
    id: int
    sensor_id: int
    name: str
    level: Level
    span_seconds: int
    rise: float | None
    """Per minute, above 0."""
    fall: float | None
    """Per minute, above 0."""
    raise_after: int
    clear_after: int


class _Row(msgspec.Struct):
    sensor_id: Id
    id: Id = 0
    name: str = ""
    span_seconds: Annotated[int, msgspec.Meta(ge=2, le=86_400)] = 60
    rise_per_minute: float | None = None
    fall_per_minute: float | None = None
    severity: Severity = "warning"
    is_active: bool | int = True
    raise_after: int | None = None
    clear_after: int | None = None


def _of_row(values: Mapping[str, Any]) -> list[Rate]:
    row = checked_row(values, _Row)
    if not row.is_active or row.severity == "info":
        return []
    bounds = {"rise_per_minute": row.rise_per_minute, "fall_per_minute": row.fall_per_minute}
    check_bounds(bounds)
    return [
        Rate(
            table=_TABLE, id=row.id, sensor_id=row.sensor_id, name=row.name or f"rate {row.id}",
            level=LEVELS[row.severity], span_seconds=row.span_seconds,
            rise=row.rise_per_minute, fall=row.fall_per_minute,
            raise_after=checked_count("raise_after", row.raise_after, 1),
            clear_after=checked_count("clear_after", row.clear_after, CLEAR_AFTER),
        )
    ]  # fmt: skip


class RateMemory(Memory):
    """Ends and means of panes up to one span old. M rows for K rules: a rule gets its row with the
    first pane of its sensor.
    """

    rule_id: Ints = column(np.int64, 0)
    span: Ints = column(np.int64, 0)
    """Seconds. A rule whose span changes starts over."""
    end: Ints = column(np.int64, NEVER, shape=(ROWS, _KEPT))
    """(M, 61) ascending; NEVER where there is none."""
    mean: Floats = column(np.float64, 0.0, shape=(ROWS, _KEPT))

    def __init__(self) -> None:
        super().__init__()
        self._rules: list[tuple[int, int]] = []
        """(K,) id and span of each rule."""
        self._row = np.empty(0, np.int64)
        """(K,) the rule's row; -1 if it has none yet."""

    def use(self, rules: Sequence[Rate]) -> None:
        """Replace the rules, and keep the panes of those that stay."""
        rows = zip(self.rule_id.tolist(), self.span.tolist(), strict=True)
        known = {rule: row for row, rule in enumerate(rows)}
        self._rules = [(rule.id, rule.span_seconds) for rule in rules]
        self._row = np.array([known.get(rule, -1) for rule in self._rules], np.int64)
        stays = self._row >= 0
        self.keep(self._row[stays])
        self._row[stays] = np.arange(self.rows)

    def forget(self, rules: NDArray[np.intp]) -> None:
        """Drop the panes of some rules."""
        gone = self._row[rules]
        kept = np.ones(self.rows, bool)
        kept[gone[gone >= 0]] = False
        place = np.cumsum(kept) - 1
        self.keep(kept)
        self._row[rules] = -1
        stays = self._row >= 0
        self._row[stays] = place[self._row[stays]]

    def settle(self) -> None:
        """Sort the rows by rule, so that they do not depend on which sensor came first."""
        order = np.lexsort((self.span, self.rule_id))
        self.keep(order)
        stays = self._row >= 0
        self._row[stays] = np.argsort(order)[self._row[stays]]

    def _rows(self, rule: Ints) -> Ints:
        """(N,) rows of rules; a rule without a row gets the next one."""
        new = np.unique(rule[self._row[rule] < 0])
        if len(new):
            self._row[new] = self.rows + np.arange(len(new))
            ids, spans = np.array([self._rules[index] for index in new.tolist()], np.int64).T
            self.append(rule_id=ids, span=spans)
        return self._row[rule]

    def step(self, rule: Ints, end: Ints, mean: Floats, span: Ints) -> tuple[Floats, Floats]:
        """(N,) the rate per minute of panes, NaN if unknown, and (N,) the milliseconds over which
        it was measured. The panes of a rule are consecutive and sorted by end.
        """
        rate, over, rows = np.full(len(rule), np.nan), np.zeros(len(rule)), self._rows(rule)
        starts = np.flatnonzero(np.r_[True, rule[1:] != rule[:-1]]) if len(rule) else rule[:0]
        count = np.diff(np.r_[starts, len(rule)])
        for turn in range(int(count.max(initial=0))):  # the n-th pane of every rule at once
            at = starts[count > turn] + turn
            row = rows[at]
            place = (self.end[row] <= (end[at] - span[at])[:, None]).sum(1) - 1
            then = self.end[row, place]
            known = (place >= 0) & (then >= end[at] - 2 * span[at])
            over[at] = np.where(known, end[at] - then, 0)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                change = (mean[at] - self.mean[row, place]) / (over[at] / _MINUTE_MS)
            rate[at] = np.where(known, change, np.nan)
            keeps = end[at] >= self.end[row, -1] + np.maximum(span[at] // (_KEPT - 1), 1)
            row, at = row[keeps], at[keeps]
            self.end[row] = np.roll(self.end[row], -1, axis=1)
            self.mean[row] = np.roll(self.mean[row], -1, axis=1)
            self.end[row, -1], self.mean[row, -1] = end[at], mean[at]
        return rate, over


class RateKind(Kind[Rate]):
    """See the module."""

    number = 4
    name = "rate"
    code = "RATE_OF_CHANGE"
    field = "rates"
    rule_type = Rate
    sources = (
        Source(
            _TABLE, "list_rates",
            ("id", "sensor_id", "name", "span_seconds", "rise_per_minute", "fall_per_minute",
             "severity", "raise_after", "clear_after"),
            _of_row,
        ),
    )  # fmt: skip
    texts: ClassVar[Texts] = {
        "es": {
            "rises": "{sensor} de {device} sube {rate} por minuto desde hace {duration}, hasta "
                     "{value}; el límite es {bound} por minuto ({rule}).",
            "falls": "{sensor} de {device} baja {rate} por minuto desde hace {duration}, hasta "
                     "{value}; el límite es {bound} por minuto ({rule}).",
        },
        "en": {
            "rises": "{sensor} of {device} has risen by {rate} a minute for {duration}, to "
                     "{value}; the limit is {bound} a minute ({rule}).",
            "falls": "{sensor} of {device} has fallen by {rate} a minute for {duration}, to "
                     "{value}; the limit is {bound} a minute ({rule}).",
        },
    }  # fmt: skip
    width = 3

    def schema(self, rule: Rate) -> int:
        """Schema 1 has no rates."""
        return 2

    def bounds(self, rule: Rate) -> tuple[float, ...]:
        """`rise`, `fall`, and the span in milliseconds."""
        return or_inf(rule.rise), or_inf(rule.fall), rule.span_seconds * 1000.0

    def memory(self) -> RateMemory:
        """The panes of the last span."""
        return RateMemory()

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: RateMemory
    ) -> Judged:
        """Compare each pane with the one a span earlier."""
        rise, fall, span = bounds
        panes = closed.panes
        rate, over = memory.step(rule, panes.end[pane], panes.mean[pane], span.astype(np.int64))
        met = (rate > rise) | (-rate > fall)  # NaN is neither
        return Judged(met, met, np.stack((rate, over)))

    def cause(self, rule: Rate, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """The rate, and the time over which it was measured."""
        rate, over = float(noted[0]), int(noted[1])
        bound = rule.rise if rate > 0 else rule.fall
        assert bound is not None
        payload = {
            "threshold_id": rule.id,
            "rate_per_minute": rate,
            "rise_per_minute": rule.rise,
            "fall_per_minute": rule.fall,
            "span_seconds": rule.span_seconds,
            "over_seconds": over / 1000,
            "raise_after": rule.raise_after,
            "clear_after": rule.clear_after,
        }
        words = {
            "rule": rule.name,
            "rate": quantity(float(f"{abs(rate):.4g}"), unit),
            "bound": quantity(bound, unit),
            "duration": duration(over),
        }
        return Cause("rises" if rate > 0 else "falls", words, payload)

    def panes_before(self, payload: Mapping[str, Any]) -> int:
        """The panes of the span, at one per second."""
        return int(payload.get("span_seconds", 0)) + 1

    def told(self, rule: Rate, unit: str) -> Told:
        """Both bounds, and the span.

        >>> rule = Rate(table="t", id=1, sensor_id=1, name="heats up", level=Level.WARN,
        ...     span_seconds=300, rise=2.5, fall=None, raise_after=1, clear_after=5)
        >>> RATE.told(rule, "°C").condition
        'mean rises by more than 2.5 °C a minute, over 5 min 0 s'
        """
        ways = (("rises", rule.rise), ("falls", rule.fall))
        parts = [
            f"{way} by more than {quantity(bound, unit)} a minute"
            for way, bound in ways
            if bound is not None
        ]
        over = duration(rule.span_seconds * 1000)
        return Told(rule.name, f"mean {' or '.join(parts)}, over {over}", "it changes more slowly")

    def detail(self, rule: Rate, closed: Closed, unit: str) -> list[str]:
        """The rate at each pane."""
        panes, memory = closed.panes, self.memory()
        memory.use([rule])
        count = len(panes.end)
        nothing = np.zeros(count, np.int64)
        rate, _ = memory.step(nothing, panes.end, panes.mean, nothing + rule.span_seconds * 1000)
        return [
            "" if np.isnan(value) else f"{quantity(float(f'{value:.4g}'), unit)} a minute"
            for value in rate.tolist()
        ]


RATE = RateKind()
