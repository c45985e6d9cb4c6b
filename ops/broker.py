"""`python -m ops.broker`: librdkafka's in-memory broker, for the demo and for tests.

Prints its address, and lives until its standard input ends or it is told to stop. What it holds
lives and dies with this process; it keeps about 5 MB a partition and gives every topic four.
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
    found = broker.list_topics(timeout=10).brokers.values()
    address = ",".join(f"{one.host}:{one.port}" for one in found)
    structlog.get_logger("broker").info("in-memory broker: nothing is kept", address=address)
    print(address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
