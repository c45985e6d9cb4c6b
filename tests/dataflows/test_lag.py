"""Where partitions end, while their broker comes and goes."""

import signal
from time import monotonic, sleep
from uuid import uuid4

from confluent_kafka import TopicPartition

from dataflows.source import _Ends
from runtime.topic import ensure_topic
from tests.pipeline.test_edge_faults import kafka  # noqa: F401 - a fixture


def test_a_broker_that_stands_still_tells_no_end_and_is_found_again(kafka):  # noqa: F811
    """An end that nobody told would let a heartbeat pass by records that wait."""
    topic = f"test.{uuid4().hex[:12]}"
    ensure_topic(kafka.address, topic)
    ends, here = _Ends(kafka.address), TopicPartition(topic, 0)

    def known(seconds):
        """Asks for so long, and returns the last 20 answers."""
        answers, end = [], monotonic() + seconds
        while monotonic() < end:
            answers.append(ends.offset(ends.ask(here)))
            sleep(0.02)
        return answers[-20:]

    assert set(known(2)) == {0}
    kafka.signal(signal.SIGSTOP)
    assert set(known(10)) == {None}
    kafka.signal(signal.SIGCONT)
    assert set(known(10)) == {0}
