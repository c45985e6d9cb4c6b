"""Writes packets to the topic. A write is done when the broker has acknowledged the record."""

import asyncio
from collections import deque
from threading import Event, Thread
from time import monotonic, sleep, time
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.errors import PacketError, UnavailableError
from contract.packet import Packet, encode
from ingest_edge.clock import EdgeClock
from ingest_edge.metrics import ACKNOWLEDGED, IN_FLIGHT, PRODUCERS, QUEUE_FILL
from runtime.kafka import KafkaAccess
from runtime.topic import largest_record

DELIVERY_S = 10.0
"""How long an acknowledgement may take before the sender gets 503 and has to retry."""

_LATE_MS = 1_000
"""The client may time out this much late, because it checks once a second."""
_QUEUE_KB = 65_536
"""Limit on the client's queue in KiB, for any number of packets."""
_BATCH = 1_000_000
"""Batch size in bytes: the client's default, which is also its default for the largest record."""
_RECORD_BYTES = 256
"""Size of a record without its value, in bytes: key, headers, and the headers of its batch."""
_PROBE_S = 2.0
_PROBE_TTL_S = 1.0
Headers = list[tuple[str, str | bytes | None]] | None
_Done = asyncio.Future[KafkaError | None]
_log = structlog.get_logger("publish")


class Publisher:
    """One idempotent producer and the thread that collects its acknowledgements.

    After a fatal error of the client library, the producer is replaced, and its packets in flight
    get 503. `largest` is in bytes, see `largest_record`.
    """

    def __init__(self, kafka: KafkaAccess, topic: str, max_in_flight: int, largest: int) -> None:
        self._topic = topic
        self._max_in_flight = max_in_flight
        self._loop = asyncio.get_running_loop()
        self._kafka = kafka
        self._config: dict[str, Any] = kafka.config() | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "delivery.timeout.ms": int(DELIVERY_S * 1000) - _LATE_MS,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "queue.buffering.max.messages": max_in_flight * 2,
            "queue.buffering.max.kbytes": _QUEUE_KB,
        }
        self._set_largest(largest)
        self._clock = EdgeClock()
        self._producer = Producer(self._config)
        self._dead: list[Producer] = []
        self._probe: asyncio.Task[bool] | None = None
        self._probed_at = 0.0
        self._in_flight = 0
        IN_FLIGHT.set_function(lambda: self._in_flight)
        QUEUE_FILL.set_function(lambda: self._in_flight / self._max_in_flight)
        self._answers: deque[tuple[_Done, KafkaError | None]] = deque()
        self._ended = Event()
        self._thread = Thread(target=self._poll, name="acknowledgements", daemon=True)
        self._thread.start()

    async def publish(self, packet: Packet, headers: Headers = None) -> None:
        """Return when all in-sync replicas have acknowledged the packet.

        Raises:
            UnavailableError: no acknowledgement came within 10 s. The packet may still arrive
                later; retrying is safe if the packet has an id.
            PacketError: 413, the topic does not accept a record of this size.
        """
        done: _Done = self._loop.create_future()
        answers, clock, sent = self._answers, self._clock, time()

        def delivered(error: KafkaError | None, message: Message) -> None:
            answers.append((done, error))
            if error is None:
                clock.heard(sent, *message.timestamp(), time())

        start, producer = monotonic(), self._producer
        value = encode(packet)
        try:
            producer.produce(
                self._topic,
                value,
                packet.device_uuid,
                on_delivery=delivered,
                headers=headers,
            )
        except BufferError as error:
            raise UnavailableError("too many bytes are waiting for the broker") from error
        except KafkaException as error:
            await self._refuse_if_large(producer, error.args[0], value)
            self._replace_if_dead(producer, error.args[0])
            raise UnavailableError(f"the Kafka client failed: {error.args[0].str()}") from error
        self._in_flight += 1
        refusal = await done
        if refusal is not None:
            await self._refuse_if_large(producer, refusal, value)
            self._replace_if_dead(producer, refusal)
            raise UnavailableError(f"the broker did not acknowledge: {refusal.str()}")
        ACKNOWLEDGED.observe(monotonic() - start)

    def _set_largest(self, size: int) -> None:
        """Keep batches below the topic's limit: a larger batch would be refused as a whole, with
        packets in it that are small enough.
        """
        self._largest = size
        sizes = {"batch.size": min(size, _BATCH), "message.max.bytes": max(size, _BATCH)}
        self._config |= sizes

    async def _refuse_if_large(self, producer: Producer, error: KafkaError, value: bytes) -> None:
        if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            return
        size = await asyncio.to_thread(largest_record, self._kafka, self._topic)
        if size != self._largest:
            self._set_largest(size)
            self._replace(producer)
        if len(value) + _RECORD_BYTES > size:
            raise PacketError(
                f"the packet needs a record of {len(value)} bytes, but the topic accepts {size} "
                "(max.message.bytes); send fewer readings per packet",
                413,
            )

    def check_room(self, packets: int) -> None:
        """Check that `packets` more packets may be published; any number may if none is in flight.

        Raises:
            UnavailableError: more than `max_in_flight` packets would be waiting.
        """
        if self._in_flight and self._in_flight + packets > self._max_in_flight:
            raise UnavailableError("too many packets are waiting for the broker")

    async def reachable(self) -> bool:
        """Whether every partition of the topic has a leader. The result is up to 1 s old, and takes
        2 s at most. Concurrent callers share it.
        """
        if self._probe is None or (
            self._probe.done() and monotonic() > self._probed_at + _PROBE_TTL_S
        ):
            self._probe = asyncio.create_task(asyncio.to_thread(self._ask))
            self._probed_at = monotonic()
        return await asyncio.shield(self._probe)

    def _ask(self) -> bool:
        try:
            topic = self._producer.list_topics(self._topic, timeout=_PROBE_S).topics[self._topic]
        except KafkaException:
            return False
        leaders = [partition.leader for partition in topic.partitions.values()]
        return topic.error is None and min(leaders, default=-1) >= 0

    def close(self) -> None:
        """Send the queued packets and end the thread. Blocks."""
        end = monotonic() + DELIVERY_S
        while len(self._producer) and monotonic() < end:
            sleep(0.01)  # the thread collects the acknowledgements
        self._ended.set()
        self._thread.join()

    def _replace_if_dead(self, producer: Producer, error: KafkaError) -> None:
        if (error.fatal() or error.code() == KafkaError._FATAL) and producer is self._producer:
            _log.error("Kafka client replaced after a fatal error", error=error.str())
            self._replace(producer)

    def _replace(self, producer: Producer) -> None:
        if producer is not self._producer:
            return
        PRODUCERS.inc()
        self._dead.append(producer)  # it still has acknowledgements to deliver
        self._producer = Producer(self._config)

    def _poll(self) -> None:
        while not self._ended.is_set():
            producer = self._producer
            try:
                producer.poll(0.1)
                for dead in self._dead:
                    dead.poll(0)
                self._dead = [dead for dead in self._dead if len(dead)]
            except KafkaException as error:  # the library raises a fatal error here, once
                self._loop.call_soon_threadsafe(self._replace_if_dead, producer, error.args[0])
            if self._answers:  # wake the loop once for all that arrived together
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        while self._answers:
            done, error = self._answers.popleft()
            self._in_flight -= 1
            if not done.done():  # the request may have been cancelled
                done.set_result(error)
