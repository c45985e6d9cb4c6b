"""Judges the last minute by rules that were added.

A person who tries a rule posts the value first, or at once: before the rule applies. So when rules
are added, the panes of the last minute that a partition still has, up to nine of each sensor, are
judged by them, as if they had closed just then. Only kinds that compare readings with bounds look
back.
"""

from dataclasses import dataclass

import numpy as np

from contract.columns import Floats, Ints
from dataflows.events.verdicts import Verdicts, VerdictState
from rules.columns import Rules
from rules.panes import Panes, Windows
from rules.tables import RuleSet, kind_of, rule_set

LOOKBACK_MS = 60_000


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the rules."""

    before: Rules
    applies_from: int
    """Arrival time, epoch milliseconds UTC."""


def added(rules: Rules, before: Rules) -> RuleSet:
    """The rules that were added and look back."""
    by_field: dict[str, list[object]] = {}
    for rule, identity in zip(rules.rule, rules.identity.tolist(), strict=True):
        kind = kind_of(rule)
        if kind.stands and identity not in before.place:
            by_field.setdefault(kind.field, []).append(rule)
    return rule_set(by_field)


def judged(panes: Panes, windows: Windows, ids: Ints, new: RuleSet, rules: Rules) -> Verdicts:
    """The verdicts of the rules `new`, with their indices in `rules`, on panes of the last minute.
    `ids` (S,) is the sensor of each row.
    """
    alone = Rules(new)
    verdicts = VerdictState(late=True).step(panes, _values(panes), windows, ids, alone)
    place = np.array([rules.place[identity] for identity in alone.identity.tolist()], np.int64)
    for column in (verdicts.rule, verdicts.due_rule):
        known = column >= 0
        column[known] = place[column[known]]
    return verdicts


def _values(panes: Panes) -> Floats:
    """Readings for the panes: of those that closed, only the lowest and the highest are known."""
    values = np.repeat(panes.mean, panes.count)
    first = np.cumsum(panes.count) - panes.count
    values[first] = panes.minimum
    values[first + panes.count - 1] = panes.maximum
    return values
