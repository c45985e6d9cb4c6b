import subprocess
import sys

import numpy as np
import pytest

from contract.errors import SetupError
from dataflows.state.stores import (
    MARK,
    WATCH,
    PartitionState,
    check_store,
    make_store,
    read_states,
    write_states,
)


def states(*partitions):
    return {
        number: PartitionState(
            1000 + number, {MARK: (1, {number: ([number], [2])}), WATCH: (3, f"of {number}")}
        )
        for number in partitions
    }


def test_written_states_are_read_and_reading_changes_nothing(tmp_path):
    written = states(*range(12))
    written[7].steps.clear()  # no record yet
    write_states(tmp_path / "a", written)
    before = (tmp_path / "a" / "part-0.sqlite3").read_bytes()
    assert read_states(tmp_path / "a", range(12)) == written
    assert read_states(tmp_path / "a", range(12)) == written
    assert (tmp_path / "a" / "part-0.sqlite3").read_bytes() == before


def test_missing_partitions_are_left_out_and_unlisted_ones_are_refused(tmp_path):
    write_states(tmp_path / "a", states(3, 10))
    assert read_states(tmp_path / "a", [3, 10, 14]) == states(3, 10)
    with pytest.raises(SetupError, match="more than the partitions 3"):
        read_states(tmp_path / "a", [3])


def test_an_empty_store_has_no_states(tmp_path):
    make_store(tmp_path / "a")
    assert read_states(tmp_path / "a", range(4)) == {}


def test_arrays_survive_the_store(tmp_path):
    column = np.arange(100_000, dtype=np.int64)
    write_states(tmp_path / "a", {0: PartitionState(5, {MARK: (1, {}), WATCH: (3, column)})})
    stored = read_states(tmp_path / "a", [0])[0].steps[WATCH][1]
    assert stored.dtype == column.dtype
    assert (stored == column).all()


@pytest.mark.parametrize("damage", [b"", b"no database" * 1000])
def test_a_damaged_store_is_reported_with_its_file(tmp_path, damage):
    make_store(tmp_path / "a")
    (tmp_path / "a" / "part-0.sqlite3").write_bytes(damage)
    with pytest.raises(SetupError, match=r"part-0\.sqlite3 is damaged .* new directory"):
        check_store(tmp_path / "a")


def test_a_store_with_a_missing_part_is_reported(tmp_path):
    from bytewax.recovery import init_db_dir  # noqa: PLC0415

    (tmp_path / "a").mkdir()
    init_db_dir(tmp_path / "a", 2)
    check_store(tmp_path / "a")
    (tmp_path / "a" / "part-0.sqlite3").unlink()
    with pytest.raises(SetupError, match="has 1 of 2 stores"):
        check_store(tmp_path / "a")


def test_a_store_that_is_not_writable_is_reported_and_not_called_damaged(tmp_path):
    make_store(tmp_path / "a")
    (tmp_path / "a" / "part-0.sqlite3").chmod(0o444)
    completed = subprocess.run(
        [sys.executable, "-c", AS_OTHER_USER, str(tmp_path / "a")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cannot be written: give it and its directory to the user" in completed.stderr
    assert "damaged" not in completed.stderr


AS_OTHER_USER = """
import os, sys
from pathlib import Path
from dataflows.state.stores import check_store
os.chdir(sys.argv[1])  # its parents may not be accessible
if os.geteuid() == 0:
    os.setuid(65534)
check_store(Path("."))
"""


def test_a_store_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    make_store(tmp_path / "a")
    (tmp_path / "a" / "part-0.sqlite3-wal").mkdir()  # simulates a failing disk
    with pytest.raises(SetupError, match=r"part-0\.sqlite3 cannot be used .*: check its disk"):
        check_store(tmp_path / "a")
