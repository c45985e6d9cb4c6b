"""Restores states that earlier versions wrote, and checks that they lead to the same events.

A file in `golden` has a state in the middle of a log, the rest of the log, and the resulting
events. Its name has the version of the engine's state, or the fingerprint of its columns. `python
-m tests.dataflows.state.test_golden` writes the file of the present columns; keep earlier files.
"""

import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest

from contract.event import event_key
from contract.table import fingerprint
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Engine
from ml.online.partition import PartitionDetector
from rules.columns import Rules
from rules.tables import KINDS, kind_numbered, make_rules
from tests.dataflows.streams import TIMES, Partition, closed, long_stream
from tests.pipeline.test_determinism import RULES

FOLDER = Path(__file__).with_name("golden")
RATES = [{"id": 1, "sensor_id": 1, "span_seconds": 30, "rise_per_minute": 20.0}]


def rules():
    made, refused = make_rules(RULES | {"rate_thresholds": RATES})
    assert not refused
    return Rules(made)


LEVELS_JUDGED_BY_MEANS_AND_PANES = {
    "engine-4.xz", "engine-5.xz", "engine-fff6cf3d9363dd01.xz",
}  # fmt: skip
"""Their programs judged the mean of a pane, counted panes however long they took, and did not judge
late readings. So they raised fewer levels, and cleared later."""
LEVEL_CODES = {kind.code for kind in KINDS} | {"RECOVERED_ANOMALY"}


def essence(events, codes=None):
    """The parts of events that must not change; texts may."""
    return [
        (event.event_key, event.at, event.event_code)
        for event in events
        if codes is None or event.event_code in codes
    ]


def check(golden, engine, *, same_levels):
    """Check that the state `engine` of a golden file leads to its events."""
    partition = Partition(rules=rules(), detector=PartitionDetector)
    partition.duplicates = DuplicateLogic(golden["state"][0])
    partition.engine.restore(engine)
    raised = raised_events(partition.engine)
    partition.step(*golden["records"])
    wanted = golden["events"]
    assert len(wanted) > 10
    found = essence(partition.events, {code for _, _, code in wanted})
    if same_levels:
        assert found == wanted
        return
    others = [event for event in wanted if event[2] not in LEVEL_CODES]
    assert [event for event in found if event[2] not in LEVEL_CODES] == others
    raises = {event for event in wanted if event[2] in LEVEL_CODES - {"RECOVERED_ANOMALY"}}
    assert raises <= set(found)
    # the events of levels that were raised when the state was written are resolved
    assert raised
    assert raised <= {event.resolves for event in partition.events}


def raised_events(engine):
    """The keys of the events of all levels above NORMAL."""
    levels, ids = engine.tables["levels"], engine.tables["sensors"].id.tolist()
    return {
        event_key(ids[row], int(levels.changed_at[row]), kind_numbered(levels.kind[row]).code)
        for row in np.flatnonzero(levels.level).tolist()
    }


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_a_state_of_an_earlier_version_is_restored_and_leads_to_the_same_events(file):
    golden = pickle.loads(lzma.decompress(file.read_bytes()))  # noqa: S301 - our own
    same_levels = file.name not in LEVELS_JUDGED_BY_MEANS_AND_PANES
    check(golden, golden["state"][1], same_levels=same_levels)


def test_a_state_of_version_3_without_microseconds_and_seq_is_restored():
    golden = pickle.loads(lzma.decompress((FOLDER / "engine-4.xz").read_bytes()))  # noqa: S301
    _, rows, panes, *rest = golden["state"][1]
    *columns, ts, _, value, late, future, _ = panes
    assert len(ts) > 0
    old = (3, rows, (*columns, ts // 1000, value, late, future), *rest)
    check(golden, old, same_levels=False)


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
