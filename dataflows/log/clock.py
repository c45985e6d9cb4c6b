"""An estimate of the broker's clock from record timestamps, and steps of this machine's clock.

Heartbeats take their time from here, not from this machine's clock, which can be set back or
forward at any time. A record shows that the broker's clock had reached its timestamp; the monotonic
clock measures the time since then. Before the first record, the machine's clock is used.
"""

from math import inf
from time import monotonic, time

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

_STEP_S = 10.0
"""A smaller step back only makes one epoch longer."""


class SetBack:
    """Detects that this machine's clock was set back.

    Bytewax ends epochs by that clock, and the Kafka client uses it for waits: no snapshot is taken
    until the clock is back where it was. A restart of the process avoids this.
    """

    def __init__(self) -> None:
        self._ahead = time() - monotonic()
        """The largest difference so far between the machine's clock and the monotonic clock."""

    def __bool__(self) -> bool:
        """Whether the clock was set back by more than ten seconds since this object was created."""
        ahead = time() - monotonic()
        self._ahead = max(self._ahead, ahead)
        return ahead < self._ahead - _STEP_S


class BrokerClock:
    """Never ahead of the broker's clock, once a record with a broker timestamp has arrived.

    A producer timestamp that is ahead of this machine's clock is capped at that clock.
    """

    def __init__(self) -> None:
        self._ahead_ms = -inf
        """How far the broker's clock is ahead of the monotonic clock, milliseconds."""

    def heard(self, kind: int, arrival: int) -> None:
        """Note a record that has just arrived: the kind of its timestamp, and the timestamp (epoch
        milliseconds UTC).
        """
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            arrival = min(arrival, int(time() * 1000))
        self._ahead_ms = max(self._ahead_ms, arrival - monotonic() * 1000)

    def at(self, moment: float) -> int:
        """The broker's time, in epoch milliseconds UTC, when the monotonic clock (seconds) was at
        `moment`.
        """
        ahead = self._ahead_ms
        if ahead == -inf:
            ahead = (time() - monotonic()) * 1000
        return int(moment * 1000 + ahead)


broker_clock = BrokerClock()
"""The clock of this process. The brokers of a cluster agree on the time within a margin."""
