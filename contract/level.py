"""The three levels that a sensor can have."""

from enum import IntEnum


class Level(IntEnum):
    """How bad it is. The numbers are ordered, stored in recovery files, and never change."""

    NORMAL = 0
    WARN = 1
    CRITICAL = 2
