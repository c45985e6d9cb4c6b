"""How every proof begins and ends: devices that post, and tables that must be those of a calm run
over the same log.
"""

from contextlib import closing

from contract.settings import child_environment
from tests.chaos import log
from tests.chaos.rig import DifferenceError, Rig, copy_database
from tests.chaos.tables import check_equal, check_pairs, check_posted

_LOAD = 60
"""Packets acknowledged from which on there is load."""


def begin(rig: Rig, seed: int) -> None:
    """Register the devices, decide what they post, and keep a copy of the database for `calm`."""
    pipeline, folder = rig.pipeline, rig.pipeline.folder
    pipeline.rows("PRAGMA synchronous = OFF")  # of our own connection, to register quickly
    devices = [
        pipeline.register(f"rig {number}", *log.specs(number)) for number in range(log.DEVICES)
    ]
    log.write_posts(folder / "posts.json", log.posts(seed, devices))
    (folder / "calm").mkdir()
    copy_database(folder / "iot.db", folder / "calm" / "iot.db")


def start_client(rig: Rig, pause_s: float = 0.05, turns: slice = slice(None)):
    """Let the devices post, each these of its packets, with a pause after each packet."""
    folder = rig.pipeline.folder
    (folder / "acknowledged").touch()
    part = folder / "part.json"
    log.write_posts(part, [packets[turns] for packets in log.read_posts(folder / "posts.json")])
    return rig.pipeline.children.start(
        "client", "tests.chaos.client", rig.pipeline.url,
        str(part), str(folder / "acknowledged"), str(pause_s),
        env=child_environment({}),
    )  # fmt: skip


def acknowledged(rig: Rig) -> set[str]:
    """The ids of the packets that were acknowledged so far."""
    return set((rig.pipeline.folder / "acknowledged").read_text().split())


def until_posted(rig: Rig, client, seconds: float = 60.0) -> None:
    """Return when the devices have posted all of theirs."""
    rig.until(lambda: client.process.poll() is not None, "all packets acknowledged", seconds)
    if client.process.returncode:
        raise DifferenceError(f"the client gave up: {client.log.read_text().splitlines()[-1:]}")
    rig.pipeline.children.stop(client)


def until_load(rig: Rig) -> None:
    """Return when devices are posting."""
    rig.until(lambda: len(acknowledged(rig)) > _LOAD, "there is load")


def finish(
    rig: Rig, client, *, calm: bool = True, killed: bool = False, leave_out=frozenset()
) -> None:
    """All that was posted is stored, once, nobody was killed but on purpose (`killed`), and with
    `calm` the tables, except those left out, are those of a calm run over the same log.
    """
    until_posted(rig, client, 120)
    rig.end_log()
    rig.until(rig.taken, "the log is taken", 120)
    dead = [name for name, program in rig.programs.items() if program.kills]
    if dead and not killed:
        raise DifferenceError(f"programs were killed: {dead}")
    rig.stop()
    check_stored(rig)
    if calm:
        check_calm(rig, leave_out=leave_out)


def check_stored(rig: Rig) -> None:
    """Raise DifferenceError unless all that was posted is stored, once, and nothing else is."""
    folder = rig.pipeline.folder
    packets = [packet for packets in log.read_posts(folder / "posts.json") for packet in packets]
    check_posted(folder / "iot.db", packets, acknowledged(rig))


def check_calm(rig: Rig, also=None, leave_out=frozenset()) -> None:
    """Raise DifferenceError unless a flow that takes the log at once, and then `also` does what was
    done to the disturbed one, gets the same tables.
    """
    folder = rig.pipeline.folder
    with closing(rig.beside("calm")) as calm:
        calm.forget_committed()
        calm.start_flow("0-3")
        calm.until(calm.taken, "the log taken by the calm flow")
        calm.stop()
        if also is not None:
            also(calm)
    check_equal(folder / "iot.db", folder / "calm" / "iot.db", leave_out)
    check_pairs(folder / "iot.db")
