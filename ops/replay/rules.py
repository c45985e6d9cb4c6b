"""The rules and models that a replay uses. Unlike the live flow, it does not store rule versions.

Rules come from `rule_versions`, each for its time, or from a file, for the whole log. Models are
learned from the log, so a file of rules does not replace them: they are those of each time, unless
the file has the table `ml_models`. Wherever a model comes from, it applies from its `trained_at`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from cachetools import LRUCache

from contract.errors import SetupError
from contract.settings import Settings
from ops.dry_run import read_rules
from rules.columns import Rules
from rules.history import OneEdition, RuleBook
from rules.models import MODELS, Model, TrendModel
from rules.tables import (
    RuleSet,
    Tables,
    decode_rules,
    make_rules,
    names_of,
    rule_set,
    rule_tables,
    rules_of_version,
)
from rules.words import Names
from sql.database import Database
from sql.schema import open_database
from sql.statements import LIST_ALL_MODELS, LIST_RULE_VERSIONS, RuleVersion

_AT_HAND = 64
"""Versions kept in memory, because partitions are at different times of the log."""
_log = structlog.get_logger("rules")


EACH_TIME = "those in force at each time"


@dataclass(frozen=True, slots=True)
class Used:
    """Where the rules and the models of a replay come from, in words."""

    rules: str
    models: str


class PastRules:
    """The editions in `rule_versions`, as the live flow used them; with `given`, only their models,
    beside those rules.
    """

    def __init__(
        self,
        settings: Settings,
        editions: Sequence[RuleVersion],
        names: Names,
        given: RuleSet | None = None,
    ) -> None:
        self._settings = settings
        self._editions = editions
        self._names = names
        self._given = given
        self._rules: LRUCache[str, Rules] = LRUCache(_AT_HAND)

    @property
    def names(self) -> Names:
        """The names in the database at the start."""
        return self._names

    def editions(self, arrival: int) -> Sequence[RuleVersion]:
        """All editions at the start. Later ones apply after the end of the log."""
        return self._editions

    def rules(self, version: str) -> Rules:
        """The rules of a version, from memory or from the database. With `given`, also those whose
        own version that is.
        """
        if (rules := self._rules.get(version)) is not None:
            return rules
        if self._given is not None and version not in {e.version for e in self._editions}:
            own = (self.rules(edition.version) for edition in self._editions)
            return next(rules for rules in own if rules.version == version)
        with open_database(self._settings) as database:
            stored = rules_of_version(database, version)
        if self._given is not None:
            stored = rule_set(self._given.rules, stored.models, self._given.silences)
        rules = self._rules[version] = Rules(stored)
        return rules


def given_rules(database: Database, file: Path) -> tuple[Tables, RuleSet, bool]:
    """Read a rules file. Return the tables, the rules that result from them, and whether the file
    has models.

    Tables in the file replace those of the database. Other tables of rules are the database's
    current ones; without the table of models, the rules have none. Names in the file are ignored.

    Raises:
        SetupError: the file cannot be read, or one of its rows is invalid.
    """
    given = read_rules(file)
    tables = {**rule_tables(database), MODELS.table: (), **given}
    versions = database.query(LIST_RULE_VERSIONS)
    last_good = rules_of_version(database, versions[-1].version) if versions else None
    rules, refused = make_rules(tables, last_good)
    for refusal in refused:
        if refusal.table in given:
            raise SetupError(
                f"{file}: row {refusal.id} of {refusal.table} is invalid: {refusal.error}"
            )
        _log.error("rule refused", table=refusal.table, id=refusal.id, error=refusal.error)
    return tables, rules, MODELS.table in given


def check_stored(database: Database, models: Sequence[Model]) -> None:
    """Check that the database has the models of a file whose predictions are to be stored.

    Raises:
        SetupError: it lacks one; a prediction refers to its model by id.
    """
    stored = {(row.id, row.sensor_id) for row in database.query(LIST_ALL_MODELS)}
    for model in models:
        if isinstance(model, TrendModel) and (model.id, model.sensor_id) not in stored:
            raise SetupError(
                f"--rules: the database has no model {model.id} of sensor {model.sensor_id}, and "
                "its predictions could not be stored: add the row to ml_models (it need not be "
                "active), or replay with --dry-run"
            )


def rule_book(
    settings: Settings, database: Database, given: str | None, *, with_models: bool = False
) -> RuleBook:
    """The rules in `given`, from `RuleSet.encode`, for all times. None: the rules of each time.
    The models are those in `given` if it is `with_models`, else those of each time.
    """
    names = names_of(database, settings.iot_lang)
    rules = None if given is None else decode_rules(given)
    if rules is not None and with_models:
        return OneEdition(Rules(rules), names)
    editions = database.query(LIST_RULE_VERSIONS)
    if editions:
        return PastRules(settings, editions, names, rules)
    now, refused = make_rules(rule_tables(database))  # no flow has run yet
    for refusal in refused:
        _log.error("rule refused", table=refusal.table, id=refusal.id, error=refusal.error)
    if rules is not None:
        now = rule_set(rules.rules, now.models, rules.silences)
    return OneEdition(Rules(now), names)


def used(database: Database, file: Path | None, given: str | None, *, with_models: bool) -> Used:
    """What `rule_book` uses with these arguments."""
    whose = f"those of {file}"
    each = EACH_TIME if database.query(LIST_RULE_VERSIONS) else "those in the database now"
    models = each
    if given is not None and with_models:
        count = len(decode_rules(given).models)
        models = f"{whose} ({count}), each from its trained_at on"
    return Used(each if given is None else whose, models)
