import grp
import os
import pickle
import pwd
import sqlite3
import stat
import sys
from contextlib import closing
from subprocess import run

import pytest

from contract.errors import SetupError
from contract.settings import child_environment
from dataflows.state.claims import arrange
from dataflows.state.stores import PartitionState, check_store, read_states, write_states
from ops.doctor.recovery import check_recovery
from runtime.private import check_private

EVERY = frozenset(range(12))


@pytest.fixture
def store(tmp_path):
    directory = tmp_path / "root" / "0-11"
    directory.parent.mkdir(mode=0o700)
    write_states(directory, {3: PartitionState(7)})
    return directory


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750])
def test_a_store_that_only_its_owner_can_write_is_read_even_if_others_can_read_it(store, mode):
    store.chmod(mode)
    for file in store.iterdir():
        file.chmod(0o644)
    check_store(store)
    assert read_states(store, EVERY)[3].position == 7


@pytest.mark.parametrize("part", ["directory", "file"])
@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_a_store_that_others_can_write_is_not_unpickled(store, part, mode):
    path = store if part == "directory" else next(store.glob("*.sqlite3"))
    _plant(store)
    path.chmod(mode)
    for read in (check_store, lambda directory: read_states(directory, EVERY)):
        with pytest.raises(SetupError) as told:
            read(store)
        assert f"`chmod go-w {path}`" in str(told.value)
        assert "\n" not in str(told.value)
    assert not (store.parent / "run").exists()


def _plant(store):
    """A pickle of the same state that makes a directory when it is read."""

    class Evil:
        def __reduce__(self):
            made = str(store.parent / "run")
            return eval, (f"__import__('os').makedirs({made!r}, exist_ok=True) or 7",)

    for file in store.glob("*.sqlite3"):
        with closing(sqlite3.connect(file)) as opened, opened:
            opened.execute("UPDATE snaps SET ser_change = ?", (pickle.dumps(Evil()),))


def test_the_planted_pickle_does_run_when_it_is_read(store):
    _plant(store)
    assert read_states(store, EVERY)[3].position == 7
    assert (store.parent / "run").exists()


def test_a_root_that_others_can_write_is_refused_before_anything_moves(store):
    store.parent.chmod(0o777)
    with pytest.raises(SetupError, match="chmod go-w"):
        arrange(store.parent, "iot.packets", [EVERY])


def test_doctor_reports_what_others_can_write(store):
    store.chmod(0o777)
    told = list(check_recovery(store.parent))
    assert any(f"`chmod go-w {store}`" in finding.text for finding in told)
    assert told[-1].state.name == "FAIL"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_store_of_another_user_is_refused(store):
    file = next(store.glob("*.sqlite3"))
    os.chown(file, 4242, -1)
    with pytest.raises(SetupError, match=f"`chown {os.geteuid()} "):
        check_store(store)


def test_group_writable_is_accepted_if_the_group_is_ours_alone(store, monkeypatch):
    """As on a Kubernetes volume with fsGroup."""
    store.chmod(0o2775)
    monkeypatch.setattr(grp, "getgrgid", _no_group)
    monkeypatch.setattr(pwd, "getpwall", list)
    check_private([store])
    monkeypatch.setattr(os, "getegid", lambda: store.stat().st_gid + 1)
    with pytest.raises(SetupError, match="chmod go-w"):
        check_private([store])


def _no_group(gid):
    raise KeyError(gid)


def test_group_writable_is_refused_if_another_account_is_in_the_group(store, monkeypatch):
    store.chmod(0o775)
    account = pwd.struct_passwd(("bob", "x", 4242, store.stat().st_gid, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [account])
    with pytest.raises(SetupError, match="chmod go-w"):
        check_private([store])


def modes(folder):
    """File modes of a folder and everything in it."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


def test_programs_create_files_and_directories_for_their_owner_only(tmp_path):
    old = os.umask(0o022)
    try:
        values = {"DB_ENGINE": "sqlite", "IOT_SQLITE_PATH": str(tmp_path / "iot.db")}
        environment = child_environment(values)
        run([sys.executable, "-m", "sql"], env=environment, check=True, capture_output=True)
        made = tmp_path / "demo"
        run(
            [sys.executable, "-m", "ops.cli", "demo", "--seconds", "2", "--dir", str(made)],
            env=child_environment({}), check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    finally:
        os.umask(old)
    assert (tmp_path / "iot.db").stat().st_mode & 0o777 == 0o600
    by_name = modes(made)
    assert {"demo.db", "edge.log", "flow.log", "recovery"} <= by_name.keys()
    assert {name for name, mode in by_name.items() if mode & 0o077} == set()
