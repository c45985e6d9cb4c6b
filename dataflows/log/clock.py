"""The broker's clock, as far as the records that came tell it; and steps of this machine's clock.

Heartbeats have their time from here, and not from this machine's clock, which may be set back or
forth at any moment. A record tells that the broker's clock was at least at its timestamp; the
monotonic clock tells how much time has passed since. Until a record has come the machine's clock is
all there is.
"""

from math import inf
from time import monotonic, time

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

_STEP_S = 10.0
"""Steps back up to this make one epoch longer, and nothing else."""


class SetBack:
    """Notices that this machine's clock was set back.

    Bytewax ends an epoch by that clock, and the Kafka client waits by it: until it is again where
    it was, no snapshot is taken. A new process does not have this trouble.
    """

    def __init__(self) -> None:
        self._ahead = time() - monotonic()
        """The machine's clock ahead of the monotonic one, at most so far."""

    def __bool__(self) -> bool:
        """Whether it was set back by more than ten seconds since this was made."""
        ahead = time() - monotonic()
        self._ahead = max(self._ahead, ahead)
        return ahead < self._ahead - _STEP_S


class BrokerClock:
    """Never ahead of the broker's clock, once a record has come that the broker itself has dated.

    Where producers date the records, nothing is learned from one that is ahead of this machine.
    """

    def __init__(self) -> None:
        self._ahead_ms = -inf
        """Of the monotonic clock, in milliseconds."""

    def heard(self, kind: int, arrival: int) -> None:
        """A record has come just now: the kind of its timestamp, and the timestamp (epoch
        milliseconds UTC).
        """
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            arrival = min(arrival, int(time() * 1000))
        self._ahead_ms = max(self._ahead_ms, arrival - monotonic() * 1000)

    def at(self, moment: float) -> int:
        """What the clock was, in epoch milliseconds UTC, when the monotonic clock (seconds) was at
        `moment`.
        """
        ahead = self._ahead_ms
        if ahead == -inf:
            ahead = (time() - monotonic()) * 1000
        return int(moment * 1000 + ahead)


broker_clock = BrokerClock()
"""The one of this process: the brokers of a cluster have the same time, but for a margin."""
