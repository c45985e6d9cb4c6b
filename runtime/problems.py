"""Error responses: `application/problem+json` (RFC 9457)."""

from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil

import msgspec

from contract.errors import IotError, PacketError, UnavailableError

CONTENT_TYPE = "application/problem+json"
_RETRY_S = "1"
_REASONS = {
    400: "incomplete",
    401: "unauthorized",
    403: "forbidden",
    404: "unknown_device",
    405: "method",
    408: "slow",
    411: "length",
    413: "too_large",
    414: "too_large",
    415: "encoding",
    422: "invalid",
    429: "rate_limited",
    431: "too_large",
    500: "fault",
    501: "http",
    503: "unavailable",
    505: "http",
}


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of every error response."""

    type: str
    title: str
    status: int
    detail: str
    """What was wrong, with what, and what to do."""
    reason: str
    """The error as one word, for programs."""
    instance: str = ""
    """The request's id, as in the log."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error response."""

    status: int
    detail: str
    special: str = ""
    """The reason, if it is not the default of the status."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The error as one word, for programs and metrics."""
        return self.special or _REASONS.get(self.status, "other")

    @property
    def title(self) -> str:
        """The phrase of the status."""
        return HTTPStatus(self.status).phrase

    def body(self, request_id: str = "") -> bytes:
        """The response body as JSON."""
        return msgspec.json.encode(
            ProblemBody(
                type="about:blank",
                title=self.title,
                status=self.status,
                detail=self.detail,
                reason=self.reason,
                instance=f"urn:request:{request_id}" if request_id else "",
            )
        )


def explain(error: Exception) -> Problem:
    """Build the response to an error.

    An error of the sender has its own status, an unavailable service is 503, and the rest is 500.
    """
    if isinstance(error, PacketError):
        headers = {}
        if error.retry_after is not None:
            headers["Retry-After"] = str(ceil(error.retry_after))
        if error.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "ApiKey"
        if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "POST"
        if error.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            headers["Accept-Encoding"] = "gzip, identity"
        return Problem(error.status, str(error), error.reason, headers)
    if isinstance(error, UnavailableError):
        detail = "the packet could not be stored now; send it again"
        return Problem(503, detail, headers={"Retry-After": _RETRY_S})
    if isinstance(error, IotError):
        return Problem(500, "the service is not configured correctly; its log says what is missing")
    return Problem(500, "internal error; the log of the service has the details")
