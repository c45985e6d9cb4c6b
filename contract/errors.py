"""Errors, classified by who has to act.

Every text is meant to be shown to that person unchanged: what happened, to what, and what to do.
"""

NO_USE = 78
"""Exit code of a process that fails again until the operator fixes something (EX_CONFIG)."""


class IotError(Exception):
    """Base class of every error that this project raises on purpose."""


class SettingError(IotError):
    """For the operator: a setting is wrong or missing. The text starts with the setting's name."""


class SetupError(IotError):
    """For the operator: the environment is not set up (no schema, no permission, no topic)."""


class SchemaError(SetupError):
    """This program cannot use the database's schema. Waiting does not help."""


class UnavailableError(IotError):
    """The broker or the database does not answer. The same call may succeed later."""


class TimedOutError(UnavailableError):
    """The call took too long. A smaller batch may succeed."""


class RefusedError(IotError):
    """The database will never accept this row. Retrying does not help."""


class ConflictError(RefusedError):
    """Another writer was faster with a row of this key. The same call then writes only what is
    still missing, unless the database has a unique key that this program does not know.
    """


class PacketError(IotError):
    """For the sender: an HTTP request is not a valid packet.

    `status` is the HTTP status of the response. `reason` is a word for the cause, if the status is
    not specific enough. `retry_after` says in how many seconds the same request would be accepted.
    The text names the field and the index of the reading, and never repeats what was sent.
    """

    def __init__(
        self, text: str, status: int = 422, *, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class RecordError(IotError):
    """For the sender: a record on the topic is not a packet record."""


def error_of_ours(error: BaseException) -> IotError | None:
    """The first `IotError` in the chain of explicit causes of `error`, or None. An error that was
    merely being handled when another was raised is not a cause.

    >>> error_of_ours(ValueError("theirs"))
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, IotError):
        cause = cause.__cause__
    return cause
