"""Restores states that earlier versions wrote, and checks that they lead to the same events.

A file in `golden` has a state in the middle of a log, the rest of the log, and the resulting
events. Its name has the version of the engine's state, or the fingerprint of its columns. `python
-m tests.dataflows.state.test_golden` writes the file of the present columns; keep earlier files.
"""

import lzma
import pickle
from pathlib import Path

import pytest

from contract.table import fingerprint
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Engine
from ml.online.partition import PartitionDetector
from rules.columns import Rules
from rules.tables import make_rules
from tests.dataflows.streams import TIMES, Partition, closed, long_stream
from tests.pipeline.test_determinism import RULES

FOLDER = Path(__file__).with_name("golden")
RATES = [{"id": 1, "sensor_id": 1, "span_seconds": 30, "rise_per_minute": 20.0}]


def rules():
    made, refused = make_rules(RULES | {"rate_thresholds": RATES})
    assert not refused
    return Rules(made)


def essence(events, codes=None):
    """The parts of events that must not change; texts may."""
    return [
        (event.event_key, event.at, event.event_code)
        for event in events
        if codes is None or event.event_code in codes
    ]


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_a_state_of_an_earlier_version_is_restored_and_leads_to_the_same_events(file):
    golden = pickle.loads(lzma.decompress(file.read_bytes()))  # noqa: S301 - our own
    duplicates, engine = golden["state"]
    partition = Partition(rules=rules(), detector=PartitionDetector)
    partition.duplicates = DuplicateLogic(duplicates)
    partition.engine.restore(engine)
    partition.step(*golden["records"])
    wanted = golden["events"]
    assert len(wanted) > 10
    assert essence(partition.events, {code for _, _, code in wanted}) == wanted


def test_a_state_of_version_3_without_microseconds_and_seq_is_restored():
    golden = pickle.loads(lzma.decompress((FOLDER / "engine-4.xz").read_bytes()))  # noqa: S301
    duplicates, (_, rows, panes, *rest) = golden["state"]
    *columns, ts, _, value, late, future, _ = panes
    assert len(ts) > 0
    partition = Partition(rules=rules(), detector=PartitionDetector)
    partition.duplicates = DuplicateLogic(duplicates)
    partition.engine.restore((3, rows, (*columns, ts // 1000, value, late, future), *rest))
    partition.step(*golden["records"])
    assert essence(partition.events, {code for _, _, code in golden["events"]}) == golden["events"]


def test_the_present_columns_have_a_golden_file():
    """If this fails, columns have changed: write the new file, and keep the existing ones."""
    assert (FOLDER / f"engine-{present()}.xz").exists()


def present():
    return fingerprint(Engine(TIMES, PartitionDetector()).tables)


def write():
    """Write the file of the present columns."""
    records = closed(long_stream(5))
    half = len(records) // 2
    partition = Partition(rules=rules(), detector=PartitionDetector)
    partition.step(*records[:half])
    state = (partition.duplicates.snapshot(), partition.engine.snapshot())
    before = len(partition.events)
    partition.step(*records[half:])
    golden = {
        "state": state,
        "records": records[half:],
        "events": essence(partition.events[before:]),
    }
    file = FOLDER / f"engine-{present()}.xz"
    file.write_bytes(lzma.compress(pickle.dumps(golden, protocol=4)))


if __name__ == "__main__":
    write()
