"""What a check finds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from contract.errors import IotError


class State(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"
    """It runs, and somebody should look."""
    FAIL = "FAIL"
    """It does not run, or a promise does not hold."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do where it is not OK."""

    state: State
    about: str
    text: str


def guarded(about: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings; an error ends them with one more, and nothing else."""
    try:
        yield from findings
    except IotError as error:
        yield Finding(State.FAIL, about, str(error))
    except Exception as error:  # noqa: BLE001 - told as it is, and the other checks go on
        text = f"this could not be looked at: {type(error).__name__}: {error}"
        yield Finding(State.FAIL, about, text)
