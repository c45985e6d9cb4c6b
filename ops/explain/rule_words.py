"""A rule in the words of an operator, with its unit."""

from dataclasses import dataclass

from rules.kind import Rule
from rules.tables import kind_of


@dataclass(frozen=True, slots=True)
class RuleWords:
    """One rule, in words."""

    kind: str
    name: str
    level: str
    condition: str
    reset: str
    raise_after: int
    """Consecutive panes."""
    clear_after: int
    """Consecutive quiet panes."""
    asked: str
    """`asked`: raised the event's level. `had asked`: raised the level before it. Else empty."""


def told(rule: Rule, unit: str, asked: str) -> RuleWords:
    """Describe a rule in words."""
    kind = kind_of(rule)
    words = kind.told(rule, unit)
    return RuleWords(
        kind.name, words.name, rule.level.name, words.condition, words.reset,
        rule.raise_after, rule.clear_after, asked,
    )  # fmt: skip
