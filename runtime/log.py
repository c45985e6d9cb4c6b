"""Logging of our processes: one line of JSON per event, on standard error.

A log only reports. If its disk is full, or its reader is gone or does not read, lines are lost and
counted, and the process continues. As soon as lines can be written again, the first one says how
many were lost.
"""

import logging
import os
import select
import sys
from threading import Lock

import structlog
from prometheus_client import Counter
from stamina.instrumentation import set_on_retry_hooks
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

_AT_ONCE = 4096
"""A pipe that has room takes this many bytes without blocking."""
LINES_LOST = Counter("iot_log_lines_lost", "Log lines that could not be written")


class _Lines:
    """Standard error as a stream that takes whole lines, never raises and never blocks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lost = 0

    def write(self, line: str) -> None:
        """Write a line, or count it."""
        with self._lock:
            try:
                if self._lost:
                    _write(f'{{"event": "lines of the log were lost", "lines": {self._lost}}}\n')
                    self._lost = 0
                _write(line)
            except (OSError, ValueError):  # no room or no reader; the stream is closed
                self._lost += 1
                LINES_LOST.inc()

    def flush(self) -> None:
        """Do nothing: each line is written immediately."""


def _write(line: str) -> None:
    stream = sys.stderr
    try:
        descriptor = stream.fileno()
    except OSError:  # a replacement by a test
        stream.write(line)
        return
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    data = line.encode(errors="replace")
    while data:
        if not ready.poll(0):
            raise BlockingIOError("the log's reader does not read")
        data = data[os.write(descriptor, data[:_AT_ONCE]) :]


_lines = _Lines()


def say(text: str) -> None:
    """Write a plain line to standard error, if possible."""
    _lines.write(f"{text}\n")


def configure_log() -> None:
    """Send structlog's events, and what libraries log, to standard error.

    Each program calls this once on start.
    """
    set_on_retry_hooks(())  # the caller logs retries with a reason; stamina's own line has none
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    after: list[Processor] = [
        # without local variables: they include keys and payloads
        ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*before, *after],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_lines),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_lines)
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[drop_meta, *after], foreign_pre_chain=before
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def configure_service_log() -> None:
    """The same as `configure_log`, in the lifespan of a service.

    Also replaces the handlers that uvicorn's own command installs, so that its lines become ours.
    """
    configure_log()
    for name in ("uvicorn", "uvicorn.access"):
        logger = logging.getLogger(name)
        if logger.handlers:  # otherwise its lines are disabled
            logger.handlers.clear()
            logger.propagate = True
