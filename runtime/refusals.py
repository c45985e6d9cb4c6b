"""Refused requests: all of them are counted, and up to 20 a second are logged."""

from collections.abc import Callable
from time import monotonic
from uuid import uuid4

import structlog

from runtime.problems import Problem

_LINES = 20
"""Refusals logged per second. Only the number of further ones is logged."""


class Refusals:
    """Counts and logs the refusals of one service.

    `count` gets the path (one of ours, or "other") and the status of each.
    """

    def __init__(self, log: str, count: Callable[[str, str], None]) -> None:
        self._log = structlog.get_logger(log)
        self._count = count
        self._process = uuid4().hex[:8]
        self._number = 0
        self._second = 0
        self._lines = 0

    def request_id(self) -> str:
        """Return a new request id."""
        self._number += 1
        return f"{self._process}-{self._number}"

    def note(
        self,
        problem: Problem,
        path: str,
        request_id: str,
        client: str | None,
        error: BaseException | None = None,
    ) -> None:
        """Count a refusal, and log it. `path` is one of ours or "other".

        An internal error (500) is always logged, with its traceback.
        """
        self._count(path, str(problem.status))
        if problem.status == 500:
            self._log.error("request failed", request=request_id, path=path, exc_info=error)
            return
        second = int(monotonic())
        more = {}
        if second != self._second:
            if self._lines > _LINES:
                more["not_logged_before"] = self._lines - _LINES
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > _LINES:
            return
        self._log.warning(
            "refused",
            request=request_id,
            path=path,
            status=problem.status,
            reason=problem.reason,
            detail=problem.detail if error is None else str(error),
            client=client,
            **more,
        )
