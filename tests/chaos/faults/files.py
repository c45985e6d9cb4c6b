"""Files that are deleted, replaced or restored under running programs, and full disks."""

from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from subprocess import run

from sql.schema import open_database
from tests.chaos.kafka import Kafka
from tests.chaos.proof import acknowledged, begin, finish, start_client, until_load
from tests.chaos.rig import DifferenceError, MissingError, Rig, copy_database

_PAUSE_S = 0.5
"""Between two packets of a device: they go on posting while a database is repaired."""
_DISK = 32 << 20
"""Bytes."""
_STRANGER = {
    "device_uuid": "00000000-0000-4000-8000-000000000000",
    "readings": [{"sensor_uuid": "00000000-0000-4000-8000-000000000001", "value": 1}],
}
"""A packet of an unregistered device."""


def database_deleted(kafka: Kafka, rig: Rig) -> None:
    """The database is deleted beneath the programs: the flow ends before its next commit. An older
    copy is put there, and a replay brings the rest.
    """
    client = _under_load(rig, 14)
    _delete(rig)
    said = rig.refusal("flow 0-3")
    if "was deleted" not in said:
        raise DifferenceError(f"the flow has said: {said}")
    _put_copy(rig)
    _repair(rig)
    finish(rig, client, calm=False)


def database_replaced(kafka: Kafka, rig: Rig) -> None:
    """The database is replaced by an older copy under the programs."""
    client = _under_load(rig, 15)
    _delete(rig)
    _put_copy(rig)
    said = rig.refusal("flow 0-3")
    if "was deleted" not in said and "was replaced" not in said:
        raise DifferenceError(f"the flow has said: {said}")
    _repair(rig)
    finish(rig, client, calm=False)


def database_restored(kafka: Kafka, rig: Rig) -> None:
    """The database is replaced by an older copy while the flow is down."""
    client = _under_load(rig, 16)
    rig.stop("flow 0-3")
    _delete(rig)
    _put_copy(rig)
    _repair(rig)
    finish(rig, client, calm=False)


def _under_load(rig: Rig, seed: int):
    begin(rig, seed)
    rig.start_flow("0-3")
    rig.start_edge()
    client = start_client(rig, _PAUSE_S)
    until_load(rig)
    rig.until(lambda: bool(rig.pipeline.rows("SELECT 1 FROM sensor_readings LIMIT 1")), "rows")
    return client


def _delete(rig: Rig) -> None:
    rig.pipeline.database.close()
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            (rig.pipeline.folder / f"iot.db{ending}").unlink()


def _put_copy(rig: Rig) -> None:
    """Restore the database as it was before anything was posted."""
    folder = rig.pipeline.folder
    copy_database(folder / "calm" / "iot.db", folder / "new.db")
    (folder / "new.db").rename(folder / "iot.db")
    rig.pipeline.database = open_database(rig.pipeline.settings)


def _repair(rig: Rig) -> None:
    """Follow the flow's error message: replay the rest of the log, and start the flow."""
    rig.start_flow("0-3")
    said = rig.refusal("flow 0-3")
    if "iot replay --into live" not in said:
        raise DifferenceError(f"the flow has said: {said}")
    replays = str(rig.pipeline.folder / "replays")
    done = rig.pipeline.iot("replay", "--into", "live", "--dir", replays)
    if done.returncode:
        raise DifferenceError(f"the replay failed: {done.stderr.splitlines()[-1:]}")
    rig.start_flow("0-3")


def log_disk_full(kafka: Kafka, rig: Rig) -> None:
    """Nothing can be written to the logs of edge and flow: they work, answer and end as ever, and
    count the lines.
    """
    if not Path("/dev/full").exists():
        raise MissingError("/dev/full")
    begin(rig, 17)
    for name in ("edge", "flow 0-3"):
        (rig.pipeline.folder / f"{name}.log").symlink_to("/dev/full")
    rig.start_flow("0-3", values={"METRICS_PORT": str(rig.pipeline.metrics_port)})
    rig.start_edge()
    client = start_client(rig, 0.1)
    until_load(rig)
    for body, wanted in ({"device_uuid": "nobody"}, 422), (_STRANGER, 404):
        if (code := rig.pipeline.post(body).status_code) != wanted:
            raise DifferenceError(f"{body} is answered with {code}")
    if not rig.pipeline.metrics().get("iot_log_lines_lost_total"):
        raise DifferenceError("the flow has not counted the lines that are lost")
    finish(rig, client)


def recovery_disk_full(kafka: Kafka, rig: Rig) -> None:
    """The disk of the recovery directory is full: the flow ends with one line, and continues once
    there is room.
    """
    begin(rig, 18)
    place = rig.pipeline.folder / "recovery" / "0-3"
    with _disk(place):
        flow = rig.start_flow("0-3")
        rig.start_edge()
        client = start_client(rig, 0.3)
        until_load(rig)
        if flow.child.process.poll() is not None:
            raise DifferenceError("the flow ended although there was free space")
        _fill(place / "filler")
        said = rig.refusal("flow 0-3")
        if "full" not in said or "start again" not in said:
            raise DifferenceError(f"the flow has said: {said}")
        there = len(acknowledged(rig))
        rig.until(lambda: len(acknowledged(rig)) > there, "devices post meanwhile")
        (place / "filler").unlink()
        rig.start_flow("0-3")
        finish(rig, client)


@contextmanager
def _disk(place: Path):
    """A small disk at `place`."""
    place.mkdir(parents=True)
    mount = which("mount")
    size = f"size={_DISK},mode=0700"
    if (
        mount is None
        or run([mount, "-t", "tmpfs", "-o", size, "tmpfs", place], check=False).returncode
    ):
        raise MissingError("the right to mount a small disk (root, on Linux)")
    try:
        yield
    finally:
        run([which("umount") or "umount", "--lazy", place], check=True)


def _fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as full:
        while True:
            full.write(bytes(1 << 16))
