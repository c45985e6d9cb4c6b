"""The engine of one partition: a pure function of its sequence and of the rules."""

from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Engine, Outcome, Times
from dataflows.engine.no_data import FACTOR, LEAST_MS
from dataflows.engine.panes import aggregate
from dataflows.engine.partition_step import Watch
from dataflows.engine.windows import WindowState

__all__ = [
    "FACTOR",
    "LEAST_MS",
    "DuplicateLogic",
    "Engine",
    "Outcome",
    "Times",
    "Watch",
    "WindowState",
    "aggregate",
]
