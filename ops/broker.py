"""`python -m ops.broker`: librdkafka's in-memory broker, for the demo and for tests.

Prints its address, and runs until its standard input ends or it gets SIGTERM or SIGINT. Its data is
lost when this process ends. It keeps about 5 MB per partition, and every topic has four partitions.
"""

import signal
import sys

import structlog
from confluent_kafka import Producer

from runtime.log import configure_log


def main() -> None:
    """Serve until standard input ends."""
    configure_log()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    nodes = broker.list_topics(timeout=10).brokers.values()
    address = ",".join(f"{node.host}:{node.port}" for node in nodes)
    structlog.get_logger("broker").info(
        "in-memory broker started, its data is lost when it ends", address=address
    )
    print(address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
