"""The rules that a replay uses. Unlike the live flow, a replay does not store rule versions."""

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
"""Versions kept in memory, because partitions are at different times of the log."""
_log = structlog.get_logger("rules")


class PastRules:
    """The editions in `rule_versions`, as the live flow used them."""

    def __init__(self, settings: Settings, editions: Sequence[RuleVersion], names: Names) -> None:
        self._settings = settings
        self._editions = editions
        self._names = names
        self._rules: LRUCache[str, Rules] = LRUCache(_AT_HAND)

    @property
    def names(self) -> Names:
        """The names in the database at the start."""
        return self._names

    def editions(self, arrival: int) -> Sequence[RuleVersion]:
        """All editions at the start. Later ones apply after the end of the log."""
        return self._editions

    def rules(self, version: str) -> Rules:
        """The rules of a version, from memory or from the database."""
        if (rules := self._rules.get(version)) is None:
            with open_database(self._settings) as database:
                rules = self._rules[version] = Rules(rules_of_version(database, version))
        return rules


def given_rules(database: Database, file: Path) -> tuple[Tables, RuleSet]:
    """Read a rules file. Return the tables and the rules that result from them.

    Tables in the file replace those of the database. Other tables are the database's current ones.
    Names in the file are ignored.

    Raises:
        SetupError: the file cannot be read, or one of its rows is invalid.
    """
    given = read_rules(file)
    tables = {**rule_tables(database), **given}
    versions = database.query(LIST_RULE_VERSIONS)
    last_good = rules_of_version(database, versions[-1].version) if versions else None
    rules, refused = make_rules(tables, last_good)
    for refusal in refused:
        if refusal.table in given:
            raise SetupError(
                f"{file}: row {refusal.id} of {refusal.table} is invalid: {refusal.error}"
            )
        _log.error("rule refused", table=refusal.table, id=refusal.id, error=refusal.error)
    return tables, rules


def rule_book(settings: Settings, database: Database, given: str | None) -> RuleBook:
    """The rules in `given`, from `RuleSet.encode`, for all times. None: the rules of each time."""
    names = names_of(database, settings.iot_lang)
    if given is not None:
        return OneEdition(Rules(decode_rules(given)), names)
    editions = database.query(LIST_RULE_VERSIONS)
    if editions:
        return PastRules(settings, editions, names)
    rules, refused = make_rules(rule_tables(database))  # no flow has run yet
    for refusal in refused:
        _log.error("rule refused", table=refusal.table, id=refusal.id, error=refusal.error)
    return OneEdition(Rules(rules), names)
