"""What goes wrong around the pipeline, with an audit of every acknowledged reading."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from ops.children import Children
from tests.chaos.faults import clocks, files, logs, neighbours
from tests.chaos.kafka import Kafka
from tests.chaos.rig import Rig
from tests.pipeline.conftest import Pipeline

FAULTS = (
    neighbours.broker_stopped,
    neighbours.broker_killed,
    neighbours.database_locked,
    neighbours.edge_and_flow_killed,
    logs.offset_gone,
    logs.topic_recreated_while_the_flow_was_down,
    logs.topic_recreated_beneath_the_flow,
    logs.log_restored_from_an_older_copy,
    logs.partitions_added,
    logs.partitions_added_to_a_fleet,
    logs.transaction_markers,
    logs.dead_letter_topic_deleted,
    clocks.clock_of_the_flow_steps,
    clocks.clock_of_the_edge_steps,
    files.database_deleted,
    files.database_replaced,
    files.database_restored,
    files.log_disk_full,
    files.recovery_disk_full,
)


def run_fault(fault: Callable[[Kafka, Rig], None], folder: Path) -> None:
    """Run it, with all it leaves in `folder`.

    Raises:
        DifferenceError: something is lost, twice, invented or different.
        AssertionError: something did not come to its end in time.
        MissingError: this machine does not have what the fault needs.
    """
    with Kafka(folder / "kafka") as kafka, Children(folder) as children:
        pipeline = Pipeline(folder, kafka.start(), children, f"chaos.{uuid4().hex[:12]}")
        with closing(Rig(pipeline, append_time=True)) as rig:
            fault(kafka, rig)
