"""The three ingest endpoints: check the key, read the body, build the packet, publish, respond.

This is an ASGI application of its own: FastAPI's request and response objects would cost more than
all of this work.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from time import monotonic, time_ns

import msgspec
from starlette.types import Receive, Scope, Send

from contract.errors import PacketError, UnavailableError
from contract.settings import Settings
from ingest_edge.body import Bodies, Incoming, discard
from ingest_edge.directory import Directory
from ingest_edge.keys import Keys
from ingest_edge.limits import RateLimit
from ingest_edge.lookups import Lookups
from ingest_edge.metrics import ACCEPTED, LOOKUPS, READINGS_REFUSED, REQUESTS, SKEWED
from ingest_edge.packets import (
    Accepted,
    CheckedReading,
    Device,
    legacy_packet,
    legacy_readings,
    missing,
    packet_of,
)
from ingest_edge.parser import Parser
from ingest_edge.publish import Headers, Publisher
from ingest_edge.refusals import refusals
from ingest_edge.requests import Body, LegacyBody, LegacyReading, PacketBody, uuid_text
from runtime.problems import CONTENT_TYPE, explain

PACKETS = "/ingest/packets"
READINGS = "/ingest/readings"
BULK = "/ingest/readings/bulk"

_traceparent = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_given_id = re.compile(rb"[A-Za-z0-9._:-]{1,64}").fullmatch
_encode = msgspec.json.Encoder().encode


_AT_ONCE = 100
"""Packets of a bulk request that are published before other requests get a turn."""


class PacketAnswer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Response of `POST /ingest/packets`. `inserted` always equals `accepted`."""

    accepted: int
    inserted: int
    unknown_sensors: list[str]
    packet_id: str
    warnings: list[str] = []
    """What was accepted but is probably a mistake. Omitted when empty."""


class LegacyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Response of the legacy endpoints. Empty lists are omitted."""

    inserted: int
    unknown_sensors: list[int] = []
    warnings: list[str] = []


class Ingest:
    """Responds with 2xx only after Kafka has acknowledged the readings."""

    def __init__(self, settings: Settings, lookups: Lookups, publisher: Publisher) -> None:
        ttl_s = settings.sensor_map_ttl_seconds
        self._keys = Keys(lookups, settings.ingest_api_key, ttl_s)
        self._directory = Directory(lookups, ttl_s)
        self._publisher = publisher
        self._limit = RateLimit(settings.device_packets_per_second)
        self._bodies = Bodies()
        self._parser = Parser()
        self._success = int(settings.ingest_success_status)
        self._doors: dict[str, _Door] = {
            PACKETS: self._packet,
            READINGS: self._reading,
            BULK: self._bulk,
        }
        self._done = {
            path: REQUESTS.labels(path, str(self._success if path == PACKETS else 200))
            for path in self._doors
        }

    async def open(self) -> None:
        """Start the background work."""
        await self._parser.open()

    async def close(self) -> None:
        """Stop the background work."""
        self._bodies.close()
        await self._parser.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request to one of the three paths, with any method."""
        path = scope["path"]
        incoming = Incoming(dict(scope["headers"]), receive)
        if scope["method"] != "POST":
            refused = PacketError("this path only accepts POST", 405)
            await self._refuse(scope, incoming, send, refused)
            return
        try:
            status, content = await self._doors[path](incoming)
        except asyncio.CancelledError:  # the edge is stopping and waits no longer
            incoming.ended = True
            await self._refuse(
                scope, incoming, send, UnavailableError("the edge is stopping"), close=True
            )
            return
        except Exception as error:  # noqa: BLE001 - the outermost boundary: it becomes a response
            await self._refuse(scope, incoming, send, error)
            return
        await _send(send, status, b"application/json", content, [])
        self._done[path].inc()

    async def _packet(self, incoming: Incoming) -> tuple[int, bytes]:
        received_at = time_ns() // 1000
        bound_to = await self._admit(incoming)
        body, warnings = await self._body(incoming, PacketBody)
        incoming.readings = len(body.readings)
        device = self._directory.fresh(body.device_uuid)
        if device is None or missing(device, body):
            device = await self._look_up(body)
        else:
            LOOKUPS.hit.inc()
        if bound_to is None:
            self._limit.take((device.uuid,), monotonic())
        elif bound_to != device.uuid:
            raise _not_yours("the key belongs to another device")
        accepted = packet_of(body, device, received_at)
        unknown = incoming.readings - len(accepted.packet.sensor_id)
        self._publisher.check_room(1)
        packet = accepted.packet
        await self._publish(incoming, accepted)
        number = len(packet.sensor_id)
        warnings += accepted.warnings
        if unknown:
            READINGS_REFUSED.labels("unknown_sensor").inc(unknown)
            were = "1 reading was" if unknown == 1 else f"{unknown} readings were"
            warnings.append(
                f"{were} ignored: the sensor is unknown or inactive; see unknown_sensors"
            )
        return self._success, _encode(
            PacketAnswer(number, number, accepted.unknown_sensors, packet.packet_id, warnings)
        )

    async def _admit(self, incoming: Incoming) -> str | None:
        """Check the key, and the rate of the device that it belongs to, before the body is read.
        Returns the uuid of that device, or None if the key does not belong to a device.
        """
        bound_to = await self._keys.check(incoming.headers)
        if bound_to is not None:
            self._limit.take((bound_to,), monotonic())
        return bound_to

    async def _body(self, incoming: Incoming, kind: type[Body]) -> tuple[Body, list[str]]:
        raw = await self._bodies.read(incoming)
        encoding = incoming.headers.get(b"content-encoding", b"identity")
        return await self._parser.parse(raw, encoding, kind)

    async def _look_up(self, body: PacketBody) -> Device:
        """The device, queried again if a sensor of the packet is missing."""
        uuid = uuid_text(body.device_uuid, "device_uuid")
        device = await self._directory.device(uuid)
        if device is not None and (lacking := missing(device, body)):
            await asyncio.sleep(0)
            device = await self._directory.device(uuid, lacking)
        if device is None:
            raise PacketError("device_uuid: there is no such device", 404)
        await asyncio.sleep(0)  # a packet of unknown sensors costs most: let others run in between
        return device

    async def _reading(self, incoming: Incoming) -> tuple[int, bytes]:
        return await self._legacy(incoming, LegacyReading)

    async def _bulk(self, incoming: Incoming) -> tuple[int, bytes]:
        return await self._legacy(incoming, LegacyBody)

    async def _legacy(
        self, incoming: Incoming, kind: type[LegacyBody] | type[LegacyReading]
    ) -> tuple[int, bytes]:
        received_at = time_ns() // 1000
        bound_to = await self._admit(incoming)
        body: LegacyBody | LegacyReading
        body, warnings = await self._body(incoming, kind)
        incoming.readings = len(body.readings) if isinstance(body, LegacyBody) else 1
        checked = legacy_readings(body)
        packets = await self._by_device(checked, bound_to, received_at)
        self._publisher.check_room(len(packets))
        errors = []
        for first in range(0, len(packets), _AT_ONCE):
            batch = packets[first : first + _AT_ONCE]
            errors += await asyncio.gather(
                *(self._publish(incoming, packet) for packet in batch), return_exceptions=True
            )
        for error in errors:  # after all have finished: what is stored is not counted as refused
            if error is not None:
                raise error
        stored = {number for accepted in packets for number in accepted.packet.sensor_id}
        unknown = [reading.sensor_id for reading in checked if reading.sensor_id not in stored]
        warnings += [warning for accepted in packets for warning in accepted.warnings]
        if unknown:
            READINGS_REFUSED.labels("unknown_sensor").inc(len(unknown))
        return 200, _encode(LegacyAnswer(len(checked) - len(unknown), unknown, warnings))

    async def _by_device(
        self, checked: list[CheckedReading], bound_to: str | None, received_at: int
    ) -> list[Accepted]:
        """One packet for each device that has some of the readings."""
        owners = await self._directory.owners({reading.sensor_id for reading in checked})
        by_device: dict[str, list[CheckedReading]] = {}
        for reading in checked:
            if reading.sensor_id in owners:
                by_device.setdefault(owners[reading.sensor_id], []).append(reading)
        if bound_to is None:
            self._limit.take(by_device.keys(), monotonic())
        elif by_device.keys() - {bound_to}:
            raise _not_yours("a sensor belongs to another device")
        packets = []
        for number, (uuid, known) in enumerate(by_device.items()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            device = await self._directory.device(uuid)
            if device is not None:
                packets.append(legacy_packet(device, known, received_at))
        if not packets:
            raise PacketError(
                "sensor_id: there is no such sensor, or it is inactive", reason="unknown_sensor"
            )
        return packets

    async def _publish(self, incoming: Incoming, accepted: Accepted) -> None:
        trace = incoming.headers.get(b"traceparent")
        headers: Headers = [("traceparent", trace)] if trace and _traceparent(trace) else None
        await self._publisher.publish(accepted.packet, headers)
        ACCEPTED.inc(len(accepted.packet.sensor_id))
        incoming.readings -= len(accepted.packet.sensor_id)
        if accepted.not_believed:
            SKEWED.inc(accepted.not_believed)

    async def _refuse(
        self,
        scope: Scope,
        incoming: Incoming,
        send: Send,
        error: Exception,
        *,
        close: bool = False,
    ) -> None:
        given = incoming.headers.get(b"x-request-id", b"")
        request_id = given.decode() if _given_id(given) else refusals.request_id()
        answer = explain(error)
        if incoming.readings:
            READINGS_REFUSED.labels(answer.reason).inc(incoming.readings)
        client = scope["client"]
        refusals.note(answer, scope["path"], request_id, client[0] if client else None, error)
        headers = [(name.lower().encode(), text.encode()) for name, text in answer.headers.items()]
        headers.append((b"x-request-id", request_id.encode()))
        if close or not await discard(incoming):
            headers.append((b"connection", b"close"))
        kind = CONTENT_TYPE.encode()
        await _send(send, answer.status, kind, answer.body(request_id), headers)


def _not_yours(why: str) -> PacketError:
    return PacketError(f"X-Device-Key: {why}", 403)


_Door = Callable[[Incoming], Awaitable[tuple[int, bytes]]]


async def _send(
    send: Send, status: int, kind: bytes, content: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    length = b"%d" % len(content)
    headers += ((b"content-type", kind), (b"content-length", length))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
