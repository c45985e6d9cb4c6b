import socket
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from contract.errors import UnavailableError
from runtime import reach, topic
from runtime.kafka import KafkaAccess


class _Slow:
    """A broker that has created the topic, but does not know it yet."""

    address = ("", 0)

    def __init__(self, config):
        pass

    def list_topics(self, name=None, timeout=0):
        unknown = SimpleNamespace(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), partitions={})
        topics = {} if name is None else {name: unknown}
        host, port = self.address
        brokers = {1: SimpleNamespace(host=host, port=port)}
        return SimpleNamespace(controller_id=1, brokers=brokers, topics=topics)

    def create_topics(self, new, request_timeout=0):
        there = Future()
        there.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)))
        return {topic.topic: there for topic in new}


def test_a_new_topic_that_the_broker_does_not_know_yet_is_a_temporary_error(monkeypatch):
    for module in (reach, topic):
        monkeypatch.setattr(module, "AdminClient", _Slow)
    monkeypatch.setattr(topic, "_KNOWN_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(_Slow, "address", server.getsockname())
        with pytest.raises(UnavailableError, match=r"has created the topic t, .* start again"):
            topic.ensure_topic(KafkaAccess("127.0.0.1:1"), "t")
