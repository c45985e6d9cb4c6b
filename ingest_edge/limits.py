"""Rate limits: a token bucket for each device."""

from collections.abc import Collection

from contract.errors import PacketError

_DEVICES = 50_000
BURST_S = 10.0
"""A device that was silent may send the packets of this many seconds at once."""


class RateLimit:
    """At most `rate` packets per second and device, in bursts of up to ten times that. 0: no limit.

    Formula: the token bucket of RFC 2697, counting packets instead of bytes.

    >>> limit = RateLimit(0.1)
    >>> limit.take({"a"}, 100.0)
    >>> limit.take({"a", "b"}, 101.0)
    Traceback (most recent call last):
      ...
    contract.errors.PacketError: the device sends more than 0.1 packets per second
    >>> limit.take({"b"}, 101.0)
    >>> limit.take({"a"}, 111.0)
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * BURST_S)
        self._tokens: dict[str, tuple[float, float]] = {}

    def take(self, device_uuids: Collection[str], now: float) -> None:
        """Take one token from each device, or none at all. `now` is in seconds of any monotonic
        clock.

        Raises:
            PacketError: 429, a device has no token; `retry_after` says in how many seconds it will.
        """
        if self._rate == 0:
            return
        left = {}
        for uuid in device_uuids:
            tokens, at = self._tokens.get(uuid, (self._burst, now))
            left[uuid] = min(self._burst, tokens + (now - at) * self._rate) - 1
        least = min(left.values())
        if least < 0:
            raise PacketError(
                f"the device sends more than {self._rate:g} packets per second",
                429,
                retry_after=-least / self._rate,
            )
        for uuid, tokens in left.items():
            self._tokens.pop(uuid, None)
            if len(self._tokens) >= _DEVICES:
                del self._tokens[next(iter(self._tokens))]  # the device that sent longest ago
            self._tokens[uuid] = (tokens, now)
