"""The prediction service: `python -m ml.service`."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated

import structlog
import typer
from anyio import to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from contract.errors import IotError, UnavailableError
from contract.settings import Settings, load_settings
from contract.version import VERSION
from ml.predict.connections import Connections
from ml.predict.metrics import REGISTRY, REQUESTS, SECONDS
from ml.predict.on_request import AskError, predict
from ml.predict.refusals import refusals
from ml.predict.store import clock
from runtime.http_service import Service, run_service
from runtime.lifespan import run_lifespan
from runtime.log import configure_service_log
from runtime.problems import CONTENT_TYPE, Problem
from sql.database import Database, engine_module
from sql.statements import NOW_MS

PREDICT = "/ml/predict"
_MOST_BYTES = 16_384
_BODY_S = 20.0
"""How long a client may take to send a body."""
_log = structlog.get_logger("ml")


class PredictRequest(BaseModel):
    """A forecast request."""

    sensor_id: Annotated[int, Field(gt=0, lt=2**63)]
    horizon_minutes: Annotated[
        int, Field(ge=1, le=1440, description="How far ahead to forecast.")
    ] = 10
    window: Annotated[
        int, Field(ge=1, le=1000, description="Number of readings that the forecast is based on.")
    ] = 60
    dedupe_minutes: Annotated[
        int, Field(ge=1, le=1440, description="How long an open event suppresses further ones.")
    ] = 10


class PredictResponse(BaseModel):
    """The forecast, as stored in `predictions`."""

    sensor_id: int
    model_id: int
    prediction_id: int
    predicted_value: float
    confidence: float
    target_timestamp: str
    """ISO-8601 with offset, UTC: the event time of the newest reading plus the horizon. It is
    always ahead."""
    horizon_minutes: int
    window: int


class ProblemBody(BaseModel):
    """Every error response (RFC 9457), as described in the OpenAPI document."""

    type: str
    title: str
    status: int
    detail: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Running:
    settings: Settings
    connections: Connections
    clock: Callable[[Database], int] = clock
    """The time that decides whether a target has passed."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    configure_service_log()
    settings = load_settings()
    connections = Connections(settings, engine_module(settings.engine).writers)
    try:
        await to_thread.run_sync(_reach, connections)
    except UnavailableError as error:  # it may return; until then each request is answered 503
        _log.warning("database unavailable", error=str(error))
    app.state.running = _Running(settings, connections)
    if settings.ingest_api_key is None:
        _log.warning(
            "INGEST_API_KEY is not set: anyone who can reach this port can request forecasts"
        )
    _log.info("prediction service ready", database=settings.database)
    yield
    connections.close()


class _App(FastAPI):
    """Reports in one line why it cannot start, instead of the framework's traceback.

    Also counts all responses, including internal errors, which the framework answers outside of all
    middleware.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespan(super().__call__, scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == PREDICT:
            with SECONDS.time():
                await super().__call__(scope, receive, _counted(send))
        else:
            await super().__call__(scope, receive, send)


def _counted(send: Send) -> Send:
    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            REQUESTS.labels(str(message["status"])).inc()
        await send(message)

    return counted


class _Door:
    """Checks the key and the length before the body is read, and limits how long the body takes."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PREDICT and scope["method"] == "POST":
            request = Request(scope)
            refused = _refusal(request)
            if refused is not None:
                await refused(scope, receive, send)
                return
            body = await _body(receive)
            if body is None:
                late = _problem(408, f"the body took longer than {_BODY_S:g} s", closes=True)
                await late(scope, receive, send)
                return
            receive = _replayed(body, receive)
        await self._app(scope, receive, send)


async def _body(receive: Receive) -> list[Message] | None:
    """All messages of a body; None where it takes too long."""
    messages: list[Message] = []
    try:
        async with asyncio.timeout(_BODY_S):
            while not messages or messages[-1].get("more_body", False):
                messages.append(await receive())
    except TimeoutError:
        return None
    return messages


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    left = iter(messages)

    async def replay() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return replay


def _refusal(request: Request) -> Response | None:
    running: _Running = request.app.state.running
    key = running.settings.ingest_api_key
    if key is not None:
        given = request.headers.get("X-API-Key", "").encode()
        if not compare_digest(given, key.get_secret_value().encode()):
            challenge = {"WWW-Authenticate": "ApiKey"}
            return _problem(401, "X-API-Key: missing or wrong", headers=challenge)
    length = request.headers.get("Content-Length", "")
    if not length.isascii() or not length.isdigit():
        return _problem(411, "Content-Length: is missing; send the whole body with its length")
    if int(length) > _MOST_BYTES:
        return _problem(413, f"the body has more than {_MOST_BYTES} bytes")
    return None


def _problem(
    status: int,
    detail: str,
    reason: str = "",
    headers: dict[str, str] | None = None,
    *,
    closes: bool = False,
) -> Response:
    problem = Problem(status, detail, reason, headers or {})
    more = {"Connection": "close"} if closes else {}
    return Response(problem.body(), status, problem.headers | more, CONTENT_TYPE)


app = _App(title="IoT ML Service", version=VERSION, lifespan=_lifespan, redirect_slashes=False)
app.add_middleware(_Door)  # type: ignore[arg-type]


@app.exception_handler(RequestValidationError)
async def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    wrong = error.errors()[0]
    where = ".".join(part for part in wrong["loc"] if isinstance(part, str) and part != "body")
    return _problem(422, f"{where or 'body'}: {wrong['msg']}", "invalid")


@app.exception_handler(HTTPException)
async def _on_http_error(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail = f"there is no such path; POST to {PREDICT} for a forecast"
        return _problem(404, detail, "path", headers)
    return _problem(error.status_code, str(error.detail), headers=headers)


@app.exception_handler(AskError)
async def _on_ask_error(request: Request, error: AskError) -> Response:
    return _problem(error.status, str(error), error.reason)


@app.exception_handler(UnavailableError)
async def _on_unavailable(request: Request, error: UnavailableError) -> Response:
    _log.warning("database unavailable", error=str(error))
    detail = "the database does not answer now; try again"
    return _problem(503, detail, "unavailable", {"Retry-After": "2"})


@app.exception_handler(IotError)
async def _on_our_error(request: Request, error: IotError) -> Response:
    _log.error("request failed", error=str(error))
    detail = "the service is not configured correctly; its log says what is missing"
    return _problem(500, detail, "fault")


@app.exception_handler(Exception)
async def _on_fault(request: Request, error: Exception) -> Response:
    return _problem(500, "internal error; the log of the service has the details", "fault")


def _running(request: Request) -> _Running:
    running: _Running = request.app.state.running
    return running


@app.get("/health")
async def health(running: Annotated[_Running, Depends(_running)]) -> dict[str, str]:
    """Liveness, access (`auth`: `api-key` or `open`), and what happens without a model."""
    settings = running.settings
    return {
        "status": "ok",
        "auth": "open" if settings.ingest_api_key is None else "api-key",
        "without_model": "create" if settings.auto_create_model else "refuse",
    }


@app.get("/health/ready", responses={503: {"model": ProblemBody}})
def ready(running: Annotated[_Running, Depends(_running)]) -> dict[str, str]:
    """Whether forecasts can be made now: the database answers."""
    _reach(running.connections)
    return {"status": "ok", "database": "ok"}


@app.get("/metrics", response_class=PlainTextResponse)
async def metrics() -> Response:
    """Metrics in Prometheus format."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


@app.post(
    PREDICT,
    responses={
        400: {
            "model": ProblemBody,
            "description": "The sensor has no readings, or the time to forecast has passed.",
        },
        401: {"model": ProblemBody, "description": "The key is missing or wrong."},
        404: {"model": ProblemBody, "description": "No active sensor has this id."},
        409: {"model": ProblemBody, "description": "The sensor has no active model."},
        411: {"model": ProblemBody, "description": "Content-Length is missing."},
        413: {"model": ProblemBody, "description": "The body is too large."},
        422: {"model": ProblemBody, "description": "The body is not a valid request."},
        503: {"model": ProblemBody, "description": "Temporarily unavailable, see `Retry-After`."},
    },
)
def predict_endpoint(
    ask: PredictRequest, running: Annotated[_Running, Depends(_running)]
) -> PredictResponse:
    """Forecast a sensor's value and store it. If it breaches a threshold, also store an event.

    The same request on the same readings gives the same prediction, and nothing is stored twice.
    """
    with running.connections.one() as database:
        forecast = predict(
            database,
            ask.sensor_id,
            ask.horizon_minutes,
            ask.window,
            ask.dedupe_minutes,
            language=running.settings.iot_lang,
            create_model=running.settings.auto_create_model,
            now=running.clock(database),
        )
    return PredictResponse(
        sensor_id=ask.sensor_id,
        model_id=forecast.model_id,
        prediction_id=forecast.prediction_id,
        predicted_value=forecast.value,
        confidence=forecast.confidence,
        target_timestamp=forecast.target.isoformat(),
        horizon_minutes=ask.horizon_minutes,
        window=ask.window,
    )


def _reach(connections: Connections) -> None:
    with connections.one() as database:
        database.query(NOW_MS)


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8002,
) -> None:
    """Serve forecasts over HTTP."""
    sys.exit(run_service("ml", lambda: Service(app, refusals), host, port))


if __name__ == "__main__":
    typer.run(main)
