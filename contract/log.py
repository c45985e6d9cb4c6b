"""How our processes log: one line of JSON an event, on standard error."""

import logging
import sys

import structlog
from stamina.instrumentation import set_on_retry_hooks


def configure_log() -> None:
    """Send structlog's events to standard error. Called once by each program's entry."""
    set_on_retry_hooks(())  # who retries tells what for; stamina's own line does not
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
