"""The result of a check."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from contract.errors import IotError


class State(StrEnum):
    """Severity of a finding."""

    OK = "OK"
    WARN = "WARN"
    """The pipeline runs, but needs attention."""
    FAIL = "FAIL"
    """The pipeline does not run, or a guarantee does not hold."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, its state, and what to do if it is not OK."""

    state: State
    about: str
    text: str


def guarded(about: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the findings. An error becomes the last finding and is not raised."""
    try:
        yield from findings
    except IotError as error:
        yield Finding(State.FAIL, about, str(error))
    except Exception as error:  # noqa: BLE001 - reported, and the other checks continue
        text = f"the check failed: {type(error).__name__}: {error}"
        yield Finding(State.FAIL, about, text)
