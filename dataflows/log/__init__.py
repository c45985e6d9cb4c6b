"""Reads each partition of the topic as one sequence of records and heartbeats."""

from dataflows.log.decode import BadRecord, record_columns
from dataflows.log.source import PacketSource, Span, consumer_config, group
from dataflows.log.topic_watch import TopicWatch, untaken

__all__ = [
    "BadRecord",
    "PacketSource",
    "Span",
    "TopicWatch",
    "consumer_config",
    "group",
    "record_columns",
    "untaken",
]
