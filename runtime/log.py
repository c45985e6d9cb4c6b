"""How our processes log: one line of JSON an event, on standard error."""

import logging
import sys

import structlog
from stamina.instrumentation import set_on_retry_hooks
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor


def configure_log() -> None:
    """Send structlog's events, and what libraries log, to standard error. Called once by each
    program's entry.
    """
    set_on_retry_hooks(())  # who retries tells what for; stamina's own line does not
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    after: list[Processor] = [
        # without the values of local variables: there are keys and payloads among them
        ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*before, *after],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[drop_meta, *after], foreign_pre_chain=before
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def configure_service_log() -> None:
    """The same in the lifespan of a service: what uvicorn set up for itself where it was started
    by its own command gives way, and its lines become ours.
    """
    configure_log()
    for name in ("uvicorn", "uvicorn.access"):
        logger = logging.getLogger(name)
        if logger.handlers:  # else its lines are not wanted
            logger.handlers.clear()
            logger.propagate = True
