"""How much a device may send: a token bucket for each."""

from collections.abc import Collection

from contract.errors import PacketError

_DEVICES = 50_000
BURST_S = 10.0
"""A device that was silent may send what it missed in this time at once."""


class RateLimit:
    """At most `rate` packets a second and device, with bursts of ten times that; 0: no limit.

    Formula: the token bucket of RFC 2697, with packets for bytes.

    >>> limit = RateLimit(0.1)
    >>> limit.take({"a"}, 100.0)
    >>> limit.take({"a", "b"}, 101.0)
    Traceback (most recent call last):
      ...
    contract.errors.PacketError: the device sends more than 0.1 packets a second
    >>> limit.take({"b"}, 101.0)
    >>> limit.take({"a"}, 111.0)
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * BURST_S)
        self._tokens: dict[str, tuple[float, float]] = {}

    def take(self, device_uuids: Collection[str], now: float) -> None:
        """Take a token of each device, or none; `now` is in seconds of any clock that does not
        go back.

        Raises:
            PacketError: 429, one has none; it tells in how many seconds it will have.
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
                f"the device sends more than {self._rate:g} packets a second",
                429,
                retry_after=-least / self._rate,
            )
        for uuid, tokens in left.items():
            self._tokens.pop(uuid, None)
            if len(self._tokens) >= _DEVICES:
                del self._tokens[next(iter(self._tokens))]  # the one that sent longest ago
            self._tokens[uuid] = (tokens, now)
