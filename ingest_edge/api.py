"""The HTTP edge as an application; `python -m ingest_edge` serves it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from contract.settings import Settings, load_settings
from contract.version import VERSION
from ingest_edge.ingest import BULK, PACKETS, READINGS, Ingest
from ingest_edge.lookups import Lookups
from ingest_edge.metrics import BROKER_UP, exposition, kept_current
from ingest_edge.openapi import document
from ingest_edge.publish import Publisher
from ingest_edge.refusals import refusals
from runtime.kafka import kafka_access
from runtime.lifespan import run_lifespan
from runtime.log import configure_service_log
from runtime.problems import CONTENT_TYPE, Problem, explain
from runtime.topic import ensure_topic, largest_record

_log = structlog.get_logger("edge")
_DOORS = {PACKETS, READINGS, BULK}


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts of a running edge."""

    settings: Settings
    lookups: Lookups
    publisher: Publisher
    ingest: Ingest


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    configure_service_log()
    settings = load_settings()
    kafka = await to_thread.run_sync(kafka_access, settings)
    lookups = Lookups(settings)
    await lookups.open()
    await to_thread.run_sync(ensure_topic, kafka, settings.kafka_topic)
    largest = await to_thread.run_sync(largest_record, kafka, settings.kafka_topic)
    publisher = Publisher(kafka, settings.kafka_topic, settings.max_packets_in_flight, largest)
    ingest = Ingest(settings, lookups, publisher)
    await ingest.open()
    app.state.edge = Edge(settings, lookups, publisher, ingest)
    if settings.ingest_api_key is None:
        _log.warning("INGEST_API_KEY is not set: any client that reaches this port can post")
    _log.info("edge ready", topic=settings.kafka_topic, database=settings.database)
    with kept_current():
        yield
    await ingest.close()
    await to_thread.run_sync(publisher.close)
    await to_thread.run_sync(lookups.close)


class _App(FastAPI):
    """Passes requests for the ingest paths to `Ingest`, bypassing the framework's own layers, and
    reports a failed start in one line, where the framework would print a traceback.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in _DOORS:
            await self.state.edge.ingest(scope, receive, send)
        elif scope["type"] == "lifespan":
            await run_lifespan(super().__call__, scope, receive, send)
        else:
            if scope["type"] == "http" and scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}  # the server omits the body
            await super().__call__(scope, receive, send)


app = _App(title="IoT Ingest Service", version=VERSION, lifespan=_lifespan, redirect_slashes=False)
app.openapi = lambda: document(app)  # type: ignore[method-assign]


@app.exception_handler(HTTPException)
async def _on_http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        problem = Problem(404, f"there is no such path; packets are posted to {PACKETS}", "path")
    else:
        problem = Problem(error.status_code, str(error.detail), "", dict(error.headers or {}))
    return _answer(request, problem)


@app.exception_handler(Exception)
async def _on_fault(request: Request, error: Exception) -> Response:
    return _answer(request, explain(error), error)


def _answer(request: Request, problem: Problem, error: Exception | None = None) -> Response:
    request_id, client = refusals.request_id(), request.client
    refusals.note(problem, "other", request_id, client.host if client else None, error)
    headers = problem.headers | {"X-Request-Id": request_id}
    return Response(problem.body(request_id), problem.status, headers, CONTENT_TYPE)


@app.get("/health")
async def health(request: Request) -> dict[str, str]:
    """The service is up. `auth` is `api-key`, or `open` when no key is required."""
    edge: Edge = request.app.state.edge
    return {"status": "ok", "auth": "open" if edge.settings.ingest_api_key is None else "api-key"}


@app.get("/health/live")
async def live() -> dict[str, str]:
    """Liveness: restart the process when this check fails, and only then."""
    return {"status": "ok"}


@app.get("/health/ready")
async def ready(request: Request) -> Response:
    """Readiness: packets can be stored, because every partition of the topic has a leader.

    The database may be unavailable (`database` says so): known devices continue without it.
    """
    edge: Edge = request.app.state.edge
    if not await edge.publisher.reachable():
        problem = Problem(503, "the broker does not answer", headers={"Retry-After": "2"})
        return _answer(request, problem)
    database = "away" if edge.lookups.away else "ok"
    return JSONResponse({"status": "ok", "broker": "ok", "database": database})


@app.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus. Takes 2 s when the broker is unavailable."""
    edge: Edge = request.app.state.edge
    BROKER_UP.set(await edge.publisher.reachable())
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)
