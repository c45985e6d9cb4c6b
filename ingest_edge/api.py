"""The HTTP edge: `uvicorn ingest_edge.api:app --port 8001`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hmac import compare_digest
from time import time
from typing import Any

import structlog
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from contract.errors import IotError, PacketError
from contract.log import configure_log
from contract.settings import Settings, load_settings
from contract.topic import ensure_topic
from ingest_edge.directory import Directory
from ingest_edge.packets import legacy_packet, legacy_readings, packet_of
from ingest_edge.problems import answer_error, problem
from ingest_edge.publish import Publisher
from ingest_edge.requests import LegacyBody, LegacyReading, PacketBody, parse

MAX_BODY = 1_048_576
"""Bytes that a request may have."""

_log = structlog.get_logger("edge")


@dataclass(frozen=True, slots=True)
class Edge:
    """What a running edge holds."""

    settings: Settings
    directory: Directory
    publisher: Publisher


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    configure_log()
    settings = load_settings()
    brokers = settings.brokers
    directory = Directory(settings)
    await directory.open()
    await to_thread.run_sync(ensure_topic, brokers, settings.kafka_topic)
    publisher = Publisher(brokers, settings.kafka_topic)
    app.state.edge = Edge(settings, directory, publisher)
    if settings.ingest_api_key is None:
        _log.warning("INGEST_API_KEY is not set: anyone who reaches this port may post")
    _log.info("edge ready", topic=settings.kafka_topic, database=settings.database)
    yield
    await to_thread.run_sync(publisher.close)
    await directory.close()


class _App(FastAPI):
    """Tells the server in one line why it cannot start, where the framework sends a traceback."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await super().__call__(scope, receive, send)

        failed: list[Message] = []

        async def send_in_time(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except Exception as error:
            if not isinstance(error, IotError):
                for message in failed:
                    await send(message)
                raise
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        return None


app = _App(title="IoT Ingest Service", version="0.4.0", lifespan=_lifespan)
app.add_exception_handler(IotError, answer_error)


@app.exception_handler(HTTPException)
async def _on_http_error(request: Request, error: HTTPException) -> Any:
    return problem(error.status_code, str(error.detail), dict(error.headers or {}))


@app.exception_handler(ClientDisconnect)
async def _on_disconnect(request: Request, error: ClientDisconnect) -> Any:
    return problem(400, "the connection ended before the body did")  # nobody reads it


@app.exception_handler(Exception)
async def _on_fault(request: Request, error: Exception) -> Any:
    _log.error("request failed", path=request.url.path, exc_info=error)
    return problem(500, "a fault of this service; its log has the details")


@app.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Alive, and whether anyone may post (`auth` is `api-key` or `open`)."""
    key = _edge(request).settings.ingest_api_key
    return {"status": "ok", "auth": "open" if key is None else "api-key"}


@app.post("/ingest/packets", status_code=202)
async def ingest_packet(request: Request) -> JSONResponse:
    """Accept one packet of one device: whole, once it is acknowledged, or not at all."""
    edge = _edge(request)
    received_at = _now_ms()
    body = parse(await _body(request, edge), PacketBody)
    wanted = {str(reading.sensor_uuid) for reading in body.readings}
    device = await edge.directory.device(str(body.device_uuid), with_sensors=wanted)
    if device is None:
        raise PacketError("device_uuid: there is no such device", 404)
    accepted = packet_of(body, device, received_at)
    await edge.publisher.publish(accepted.packet)
    count = len(accepted.packet.sensor_id)
    return JSONResponse(
        {
            "accepted": count,
            "inserted": count,
            "unknown_sensors": accepted.unknown_sensors,
            "packet_id": accepted.packet.packet_id,
        },
        202,
    )


@app.post("/ingest/readings")
async def ingest_reading(request: Request) -> JSONResponse:
    """Accept one reading by `sensor_id`."""
    edge = _edge(request)
    received_at = _now_ms()
    reading = parse(await _body(request, edge), LegacyReading)
    return await _ingest_legacy(edge, [reading], "", received_at)


@app.post("/ingest/readings/bulk")
async def ingest_readings(request: Request) -> JSONResponse:
    """Accept readings by `sensor_id`; each device's become one packet."""
    edge = _edge(request)
    received_at = _now_ms()
    body = parse(await _body(request, edge), LegacyBody)
    return await _ingest_legacy(edge, body.readings, "readings[{}].", received_at)


async def _ingest_legacy(
    edge: Edge, readings: list[LegacyReading], prefix: str, received_at: int
) -> JSONResponse:
    checked = legacy_readings(readings, prefix)
    by_device: dict[str, list[tuple[int, float, int | None]]] = {}
    unknown: list[int] = []
    for reading in checked:
        owner = await edge.directory.owner(reading[0])
        if owner is None:
            unknown.append(reading[0])
        else:
            by_device.setdefault(owner, []).append(reading)
    packets = []
    for uuid, known in by_device.items():
        device = await edge.directory.device(uuid)
        if device is None:
            unknown += [reading[0] for reading in known]
        else:
            packets.append(legacy_packet(device, known, received_at))
    if not packets:
        raise PacketError("sensor_id: there is no such sensor, or it is inactive")
    await asyncio.gather(*(edge.publisher.publish(packet) for packet in packets))
    inserted = sum(len(packet.sensor_id) for packet in packets)
    answer: dict[str, Any] = {"inserted": inserted}
    if unknown:
        answer["unknown_sensors"] = unknown
    return JSONResponse(answer)


async def _body(request: Request, edge: Edge) -> bytes:
    """The body of an authorised request, of bounded size."""
    key = edge.settings.ingest_api_key
    given = request.headers.get("X-API-Key", "")
    if key is not None and not compare_digest(given.encode(), key.get_secret_value().encode()):
        raise PacketError("X-API-Key: missing or wrong", 401)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise PacketError(f"the body is larger than {MAX_BODY} bytes", 413)
    return bytes(body)


def _edge(request: Request) -> Edge:
    edge: Edge = request.app.state.edge
    return edge


def _now_ms() -> int:
    return int(time() * 1000)
