"""The three levels of a sensor."""

from enum import IntEnum


class Level(IntEnum):
    """The severity. The numbers are ordered, stored in recovery files, and never change."""

    NORMAL = 0
    WARN = 1
    CRITICAL = 2
