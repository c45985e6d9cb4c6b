"""Committed offsets while the broker stops and starts."""

import signal
from contextlib import closing
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, TopicPartition

from dataflows.log.commits import Commits
from runtime.kafka import KafkaAccess
from runtime.topic import ensure_topic
from tests.pipeline.conftest import wait_until
from tests.pipeline.test_edge_faults import kafka  # noqa: F401 - a fixture


def test_commits_resume_after_the_broker_was_unreachable_and_settle_does_not_wait_for_it(
    kafka,  # noqa: F811
):
    topic = f"test.{uuid4().hex[:12]}"
    ensure_topic(KafkaAccess(kafka.address), topic)
    config = {"bootstrap.servers": kafka.address, "group.id": "group"}
    with closing(Consumer(config)) as consumer:

        def committed():
            try:
                return consumer.committed([TopicPartition(topic, 0)], 10)[0].offset
            except KafkaException:  # just after its start, the broker does not know the group
                return None

        commits = Commits(KafkaAccess(kafka.address), topic, "group")
        commits.put(0, 1)
        wait_until(lambda: committed() == 1)
        kafka.kill()
        commits.put(0, 2)
        kafka.start()

        def again():
            commits.put(0, 3)  # as the next snapshots do
            return committed() == 3

        wait_until(again)
    kafka.signal(signal.SIGSTOP)
    try:
        commits.put(0, 4)
        commits.settle(0.5)
        commits.settle(0.5)
        assert commits._at_it  # the broker has not answered, and `settle` did not wait for it
    finally:
        kafka.signal(signal.SIGCONT)
