"""Packets to the topic: a future that is done when the broker has acknowledged the record."""

import asyncio
from collections import deque
from threading import Event, Thread

import structlog
from confluent_kafka import KafkaError, Message, Producer

from contract.errors import UnavailableError
from contract.packet import Packet, encode
from contract.topic import client_config

DELIVERY_S = 10.0
"""How long an acknowledgement may take before the sender is told to come again."""

_LATE_MS = 1_000
"""How much later than it says the client gives a message up: it looks once a second."""
_log = structlog.get_logger("publish")


class Publisher:
    """One idempotent producer and the thread that collects its acknowledgements."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(
            client_config(brokers)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "delivery.timeout.ms": int(DELIVERY_S * 1000) - _LATE_MS,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
            }
        )
        self._answers: deque[tuple[asyncio.Future[KafkaError | None], KafkaError | None]] = deque()
        self._ended = Event()
        self._thread = Thread(target=self._poll, name="acknowledgements", daemon=True)
        self._thread.start()

    async def publish(self, packet: Packet) -> None:
        """Return when the packet is on the topic, acknowledged by all in-sync replicas.

        Raises:
            UnavailableError: the queue is full, or no acknowledgement came within 10 s. The
                packet may then still arrive; sending it again is safe when it carries its id.
        """
        done: asyncio.Future[KafkaError | None] = self._loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._answers.append((done, error))

        try:
            self._producer.produce(
                self._topic, encode(packet), key=packet.device_uuid, on_delivery=delivered
            )
        except BufferError as error:
            raise UnavailableError("too many packets wait for the broker") from error
        refusal = await done
        if refusal is not None:
            _log.warning("packet not acknowledged", error=refusal.str())
            raise UnavailableError("the broker did not acknowledge the packet in time")

    def close(self) -> None:
        """Send what is queued, and end the thread."""
        self._producer.flush(DELIVERY_S)
        self._ended.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._ended.is_set():
            self._producer.poll(0.1)
            if self._answers:  # one wake-up of the loop for all that came together
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        while self._answers:
            done, error = self._answers.popleft()
            if not done.done():  # the request may have been given up
                done.set_result(error)
