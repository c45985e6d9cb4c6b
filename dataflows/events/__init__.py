"""Levels, and the events and texts that report their changes."""

from dataflows.events.levels import LevelState, NoSilences
from dataflows.events.verdicts import Verdicts, VerdictState
from dataflows.events.writing import BACK, DEVIATION, FLAPPING, RECOVERED, SILENT

__all__ = [
    "BACK",
    "DEVIATION",
    "FLAPPING",
    "RECOVERED",
    "SILENT",
    "LevelState",
    "NoSilences",
    "VerdictState",
    "Verdicts",
]
