"""A rule as an operator says it, with its unit."""

from dataclasses import dataclass

from rules.kind import Rule
from rules.tables import kind_of


@dataclass(frozen=True, slots=True)
class RuleWords:
    """One rule, told."""

    kind: str
    name: str
    level: str
    condition: str
    reset: str
    raise_after: int
    """Panes in a row."""
    clear_after: int
    """Quiet panes in a row."""
    asked: str
    """`asked` for the event's level, `had asked` for the level before it, or nothing."""


def told(rule: Rule, unit: str, asked: str) -> RuleWords:
    """A rule in words."""
    kind = kind_of(rule)
    words = kind.told(rule, unit)
    return RuleWords(
        kind.name, words.name, rule.level.name, words.condition, words.reset,
        rule.raise_after, rule.clear_after, asked,
    )  # fmt: skip
