"""A rule set as columns, which the engine judges panes by."""

from typing import Any

import numpy as np

from contract.columns import Ints
from rules.detector import Bounds
from rules.kind import Group, Kind, Rule
from rules.models import DetectorModel, TrendModel, Trends
from rules.tables import KINDS, RuleSet


class Rules:
    """A rule set as columns."""

    def __init__(self, rules: RuleSet) -> None:
        self.version = rules.version()
        found: list[Rule] = []
        groups: list[tuple[Kind[Any], Group]] = []
        kinds: list[int] = []
        for kind in KINDS:
            some = kind.derived(rules.of)
            if some:
                groups.append((kind, _group(kind, some, len(found))))
            found += some
            kinds += [kind.number] * len(some)
        self.rule = tuple(found)
        self.groups = tuple(groups)
        """The kinds that have rules, in the order in which they are asked."""
        self.kind: Ints = np.array(kinds, np.int64)
        """(all rules,) number of the kind."""
        self.clear_after: Ints = np.array([one.clear_after for one in found], np.int64)
        """(all rules,) how many quiet panes end the level that a rule asked for."""
        self._sensors = frozenset(one.sensor_id for one in found)
        detectors = [one for one in rules.models if isinstance(one, DetectorModel)]
        self.deep: Ints = np.array([one.sensor_id for one in detectors if one.deep], np.int64)
        """The sensors that have the deep detector, ascending."""
        self.unusual = Bounds(
            sensor_id=np.array([one.sensor_id for one in detectors], np.int64),
            own=np.array([(one.warn_per_day, one.critical_per_day) for one in detectors])
            .reshape(-1, 2)
            .T,
        )
        """How many false alarms a day are allowed."""
        self.trends = Trends([one for one in rules.models if isinstance(one, TrendModel)])

    def watch(self, sensor_id: int) -> bool:
        """Whether any of them is the sensor's."""
        return sensor_id in self._sensors


def _group(kind: Kind[Any], rules: tuple[Any, ...], first: int) -> Group:
    return Group(
        sensor_id=np.array([one.sensor_id for one in rules], np.int64),
        number=np.arange(first, first + len(rules)),
        level=np.array([one.level for one in rules], np.int8),
        raise_after=np.array([one.raise_after for one in rules], np.int64),
        bounds=np.array([kind.bounds(one) for one in rules], np.float64).reshape(-1, kind.width).T,
    )
