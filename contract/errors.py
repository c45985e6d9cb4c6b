"""Errors by blame: who must act decides the class, and the text tells that person what to do.

Every text is meant to be read by a person as it stands: what happened, to what, and what to do.
"""

NO_USE = 78
"""Exit code of a process that will fail again until somebody mends something (sysexits' CONFIG)."""


class IotError(Exception):
    """Base of every error that this project raises on purpose."""


class SettingError(IotError):
    """The operator's: a setting is wrong or missing. The text begins with the setting's name."""


class SetupError(IotError):
    """The operator's: something outside is not as it must be (no schema, no right, no topic)."""


class SchemaError(SetupError):
    """The database's schema is none that this program can use. Waiting does not help."""


class UnavailableError(IotError):
    """A neighbour's (broker, database): it does not answer now. The same call may succeed later."""


class TimedOutError(UnavailableError):
    """The same, because it took too long: less at once may pass."""


class RefusedError(IotError):
    """The row's: the database will never take it as it is. Retrying cannot help."""


class ConflictError(RefusedError):
    """Two writers': the other was faster with a row of this key. The same call takes only what is
    missing by now, unless the database has a unique key that we do not know.
    """


class PacketError(IotError):
    """The sender's: an HTTP request that is not a valid packet.

    `status` is the HTTP status to answer with, `reason` a word for it where the status alone does
    not tell, `retry_after` in how many seconds the same request would be taken. The text names
    the field and the index of the reading, and never repeats what was sent.
    """

    def __init__(
        self, text: str, status: int = 422, *, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class RecordError(IotError):
    """The sender's: bytes on the topic that are not a packet record."""


def error_of_ours(error: BaseException) -> IotError | None:
    """The error of ours that is another one's cause; None where there is none. What happened to be
    handled when a mistake of the program showed is not its cause.

    >>> error_of_ours(ValueError("theirs"))
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, IotError):
        cause = cause.__cause__
    return cause
