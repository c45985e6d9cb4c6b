"""Compares this machine's clock with the broker's, which is the one that the flow relies on.

A delivery report carries the time at which the broker appended the record. By this machine's clock,
that time must lie between handing the packet to the client and receiving its acknowledgement. If it
does not, this clock is ahead or behind by at least the difference.
"""

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from contract.packet import BELIEVED_FROM_US
from ingest_edge.metrics import CLOCK_AHEAD

_WRONG_S, _RIGHT_S = 2.0, 1.0
"""The offsets at which a clock is reported as wrong, and below which as correct again."""
_log = structlog.get_logger("clock")


class EdgeClock:
    """Estimates the clock offset from delivery reports. Warns when it is 2 s or more."""

    def __init__(self) -> None:
        self._wrong = False

    def heard(self, sent: float, kind: int, appended_ms: int, acknowledged: float) -> None:
        """Take a delivery report: the kind of the record's timestamp, the timestamp in epoch
        milliseconds, and this machine's clock before and after, in epoch seconds.
        """
        if kind != TIMESTAMP_LOG_APPEND_TIME or appended_ms < BELIEVED_FROM_US // 1000:
            return  # a producer's time, or none: the in-memory broker reports 0
        appended = appended_ms / 1000
        ahead = max(0.0, sent - appended - 0.001) or min(0.0, acknowledged - appended)
        CLOCK_AHEAD.set(ahead)
        if abs(ahead) >= _WRONG_S and not self._wrong:
            self._wrong = True
            _log.warning(
                "this machine's clock differs from the broker's: readings without a time of their "
                "own get a wrong one; check time synchronization (NTP)",
                seconds_ahead=round(ahead, 3),
            )
        elif abs(ahead) < _RIGHT_S and self._wrong:
            self._wrong = False
            _log.info("this machine's clock is correct again", seconds_ahead=round(ahead, 3))
