"""The rules that a replay judges by; nothing is written about them, unlike by the live flow."""

from collections.abc import Sequence
from pathlib import Path

import structlog
from cachetools import LRUCache

from contract.errors import SetupError
from contract.settings import Settings
from ops.dry_run import read_rules
from rules.columns import Rules
from rules.history import OneEdition, RuleBook
from rules.tables import (
    RuleSet,
    Tables,
    decode_rules,
    make_rules,
    names_of,
    rule_tables,
    rules_of_version,
)
from rules.words import Names
from sql.database import Database
from sql.schema import open_database
from sql.statements import LIST_RULE_VERSIONS, RuleVersion

_AT_HAND = 64
"""How many versions are kept in memory: partitions are at different times of the log."""
_log = structlog.get_logger("rules")


class PastRules:
    """The editions in `rule_versions`, as the live flow had them."""

    def __init__(self, settings: Settings, editions: Sequence[RuleVersion], names: Names) -> None:
        self._settings = settings
        self._editions = editions
        self._names = names
        self._rules: LRUCache[str, Rules] = LRUCache(_AT_HAND)

    @property
    def names(self) -> Names:
        """As the database had them at the start."""
        return self._names

    def editions(self, arrival: int) -> Sequence[RuleVersion]:
        """All there were at the start: those to come apply later than the end of the log."""
        return self._editions

    def rules(self, version: str) -> Rules:
        """From memory, or from the database."""
        if (rules := self._rules.get(version)) is None:
            with open_database(self._settings) as database:
                rules = self._rules[version] = Rules(rules_of_version(database, version))
        return rules


def given_rules(database: Database, file: Path) -> tuple[Tables, RuleSet]:
    """The tables of a rules file in place of the database's of the same name, the others as they
    are now; and the rules they give. Names in the file are not looked at.

    Raises:
        SetupError: the file cannot be read, or a row of it makes no sense.
    """
    given = read_rules(file)
    tables = {**rule_tables(database), **given}
    versions = database.query(LIST_RULE_VERSIONS)
    good = rules_of_version(database, versions[-1].version) if versions else None
    rules, refused = make_rules(tables, good)
    for one in refused:
        if one.table in given:
            raise SetupError(f"{file}: row {one.id} of {one.table} makes no sense: {one.error}")
        _log.error("rule refused", table=one.table, id=one.id, error=one.error)
    return tables, rules


def rule_book(settings: Settings, database: Database, given: str | None) -> RuleBook:
    """The rules that `RuleSet.encode` wrote as `given`, for all time, or those of each time."""
    names = names_of(database, settings.iot_lang)
    if given is not None:
        return OneEdition(Rules(decode_rules(given)), names)
    editions = database.query(LIST_RULE_VERSIONS)
    if editions:
        return PastRules(settings, editions, names)
    rules, refused = make_rules(rule_tables(database))  # no flow has run yet
    for one in refused:
        _log.error("rule refused", table=one.table, id=one.id, error=one.error)
    return OneEdition(Rules(rules), names)
