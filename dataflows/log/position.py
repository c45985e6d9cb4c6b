"""Where the source of a partition is, as its recovery state: which log, and how far."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from confluent_kafka import Message

from contract.errors import SetupError

_VERSION = 2


@dataclass(frozen=True, slots=True)
class Position:
    """How far one partition has been taken."""

    next: int
    """Offset of the next record."""
    topic_id: str | None = None
    """The broker's id of the topic, where it has one: a topic that is deleted and created again
    under its name gets another."""
    last: int | None = None
    """Offset of the last record that was taken; None before the first, or where nobody knows."""
    fingerprint: bytes = b""
    """Of that record; see `fingerprint`."""

    @classmethod
    def of(cls, state: Any) -> "Position":
        """The position in a recovery state. An offset alone is one of version 1.

        Raises:
            SetupError: another version of this program wrote it.
        """
        if isinstance(state, int):
            return cls(state)
        version, *fields = state
        if version != _VERSION:
            raise SetupError(
                "the recovery directory was written by another version of this program, and this "
                f"one reads versions 1 and {_VERSION} of the source's state: start with a new "
                "directory"
            )
        return cls(*fields)

    def state(self) -> tuple[Any, ...]:
        """The recovery state, with a version tag in front."""
        return _VERSION, self.next, self.topic_id, self.last, self.fingerprint


def fingerprint(message: Message) -> bytes:
    """16 bytes that tell a record from others: its time, key and value."""
    digest = blake2b(str(message.timestamp()[1]).encode(), digest_size=16)
    for part in (message.key(), message.value()):
        data = part if isinstance(part, bytes) else b"" if part is None else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
