"""A rule set as columns, the form in which the engine evaluates it."""

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import Ints
from rules.detector import Bounds
from rules.kind import Group, Kind, Rule
from rules.models import DetectorModel, TrendModel, Trends, since
from rules.silences import Silences
from rules.tables import KINDS, RuleSet, kind_of
from rules.threshold import THRESHOLD, Threshold


class Rules:
    """A rule set as columns."""

    def __init__(self, rules: RuleSet) -> None:
        self.version = rules.version()
        all_rules: list[Rule] = []
        groups: list[tuple[Kind[Any], Group]] = []
        kinds: list[int] = []
        for kind in KINDS:
            of_kind = kind.derived(rules.of)
            if of_kind:
                groups.append((kind, _group(kind, of_kind, len(all_rules))))
            all_rules += of_kind
            kinds += [kind.number] * len(of_kind)
        self.rule = tuple(all_rules)
        self.groups = tuple(groups)
        """The kinds that have rules, in the order in which they are evaluated."""
        self.kind: Ints = np.array(kinds, np.int64)
        """(all rules,) number of each rule's kind."""
        self.clear_after: Ints = np.array([rule.clear_after for rule in all_rules], np.int64)
        """(all rules,) consecutive quiet panes that lower the level that the rule raised."""
        self.identity: Ints = np.array(list(map(_identity, all_rules)), np.int64)
        """(all rules,) a number above 0 that stays the same across editions."""
        self.place = {identity: place for place, identity in enumerate(self.identity.tolist())}
        """The index of each rule, by its identity."""
        self.sensors: Ints = np.unique([rule.sensor_id for rule in all_rules]).astype(np.int64)
        """The sensors that have rules, ascending."""
        self._sensors = frozenset(self.sensors.tolist())
        detectors = [model for model in rules.models if isinstance(model, DetectorModel)]
        deep = [model for model in detectors if model.deep]
        self.deep: Ints = np.array([model.sensor_id for model in deep], np.int64)
        """The sensors with the deep detector, ascending."""
        self.deep_since: Ints = since(deep)
        """The event time from which each of them has it."""
        self.unusual = Bounds(
            sensor_id=np.array([model.sensor_id for model in detectors], np.int64),
            own=np.array([(model.warn_per_day, model.critical_per_day) for model in detectors])
            .reshape(-1, 2)
            .T,
            since=since(detectors),
        )
        """The allowed number of false alarms per day."""
        self.without_deviations: Ints = np.array(
            [model.sensor_id for model in detectors if not model.deviations], np.int64
        )
        """The sensors whose deviations from predictions are not reported, ascending."""
        self.silences = Silences(rules.silences)
        """How long sensors and devices may be silent, where it is set."""
        bound = [group.sensor_id for kind, group in groups if kind.breaches]
        self._bound: Ints = np.unique(np.concatenate([np.empty(0, np.int64), *bound]))
        self.trends = Trends([model for model in rules.models if isinstance(model, TrendModel)])

        self._thresholds: dict[int, list[Threshold]] = defaultdict(list)
        for threshold in rules.of(THRESHOLD):
            self._thresholds[threshold.sensor_id].append(threshold)

    def thresholds_of(self, sensor_id: int) -> Sequence[Threshold]:
        """The sensor's thresholds, in order."""
        return self._thresholds.get(sensor_id, ())

    def bound(self, sensor_id: Ints) -> NDArray[np.bool_]:
        """(P,) whether the user has set bounds for the values of each sensor."""
        return np.isin(sensor_id, self._bound)

    def watch(self, sensor_id: int) -> bool:
        """Whether any rule watches the sensor."""
        return sensor_id in self._sensors


def _identity(rule: Rule) -> int:
    key = repr((kind_of(rule).name, kind_of(rule).key(rule))).encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest()) >> 1 or 1


def _group(kind: Kind[Any], rules: tuple[Any, ...], first: int) -> Group:
    return Group(
        sensor_id=np.array([rule.sensor_id for rule in rules], np.int64),
        number=np.arange(first, first + len(rules)),
        level=np.array([rule.level for rule in rules], np.int8),
        raise_after=np.array([rule.raise_after for rule in rules], np.int64),
        bounds=np.array([kind.bounds(rule) for rule in rules], np.float64)
        .reshape(-1, kind.width)
        .T,
    )
