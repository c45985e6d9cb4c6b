"""Every error answer is `application/problem+json` (RFC 9457)."""

from http import HTTPStatus

import msgspec
from fastapi import Request, Response

from contract.errors import IotError, PacketError, UnavailableError


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what was wrong, to what, and what to do."""
    content = msgspec.json.encode(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
        }
    )
    return Response(content, status, headers, "application/problem+json")


async def answer_error(request: Request, error: Exception) -> Response:
    """The answer to one of our errors: the sender's with its own status, a neighbour's with 503."""
    if isinstance(error, PacketError):
        return problem(error.status, str(error))
    if isinstance(error, UnavailableError):
        return problem(
            503, "the packet could not be stored now; send it again", {"Retry-After": "1"}
        )
    assert isinstance(error, IotError)
    return problem(500, "the service is not set up rightly; its log says what is missing")
