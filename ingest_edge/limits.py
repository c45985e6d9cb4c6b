"""How much a device may send: a token bucket for each."""

from contract.errors import PacketError

_DEVICES = 50_000
BURST_S = 10.0
"""A device that was silent may send what it missed in this time at once."""


class RateLimit:
    """At most `rate` packets a second and device, with bursts of ten times that; 0: no limit.

    Formula: the token bucket of RFC 2697, with packets for bytes.

    >>> limit = RateLimit(0.1)
    >>> limit.take("a", 100.0), limit.take("b", 100.0)
    (None, None)
    >>> limit.take("a", 101.0)
    Traceback (most recent call last):
      ...
    contract.errors.PacketError: the device sends more than 0.1 packets a second
    >>> limit.take("a", 111.0)
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * BURST_S)
        self._tokens: dict[str, tuple[float, float]] = {}

    def take(self, device_uuid: str, now: float) -> None:
        """Take a token; `now` is in seconds of any clock that does not go back.

        Raises:
            PacketError: 429, there is none; it tells in how many seconds there will be.
        """
        if self._rate == 0:
            return
        tokens, at = self._tokens.pop(device_uuid, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        enough = tokens >= 1
        if len(self._tokens) >= _DEVICES:
            del self._tokens[next(iter(self._tokens))]  # the one that sent longest ago
        self._tokens[device_uuid] = (tokens - enough, now)
        if not enough:
            raise PacketError(
                f"the device sends more than {self._rate:g} packets a second",
                429,
                retry_after=(1 - tokens) / self._rate,
            )
