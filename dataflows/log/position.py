"""The position of a partition's source, as its recovery state: which log, and which offset."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from confluent_kafka import Message

from contract.errors import SetupError

_VERSION = 2


@dataclass(frozen=True, slots=True)
class Position:
    """The position in one partition."""

    next: int
    """Offset of the next record."""
    topic_id: str | None = None
    """The broker's id of the topic; None if the broker has none. A topic that is deleted and
    created again under the same name gets a different id."""
    last: int | None = None
    """Offset of the last record read; None before the first one, or if unknown."""
    fingerprint: bytes = b""
    """Fingerprint of that record; see `fingerprint`."""

    @classmethod
    def of(cls, state: Any) -> "Position":
        """Read the position from a recovery state. In version 1, it was the offset alone.

        Raises:
            SetupError: another version of this program wrote the state.
        """
        if isinstance(state, int):
            return cls(state)
        version, *fields = state
        if version != _VERSION:
            raise SetupError(
                "the recovery directory was written by another version of this program; this one "
                f"reads versions 1 and {_VERSION} of the source's state: start with a new directory"
            )
        return cls(*fields)

    def state(self) -> tuple[Any, ...]:
        """The recovery state, with a version tag in front."""
        return _VERSION, self.next, self.topic_id, self.last, self.fingerprint


def fingerprint(message: Message) -> bytes:
    """16 bytes that identify a record by its time, key and value."""
    digest = blake2b(str(message.timestamp()[1]).encode(), digest_size=16)
    for part in (message.key(), message.value()):
        data = part if isinstance(part, bytes) else b"" if part is None else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
