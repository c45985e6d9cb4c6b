"""The broker of a benchmark: the one in `KAFKA_BOOTSTRAP_SERVERS`, or a temporary one."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory

from contract.errors import SetupError
from contract.settings import child_environment, kafka_environment, load_settings
from runtime.kafka import KafkaAccess, kafka_access

_SCRIPT = Path(__file__).parents[1] / ".ci" / "kafka"
_STOP_S = 20.0


@contextmanager
def kafka() -> Iterator[str]:
    """The address of a Kafka broker. A broker that is started here is stopped at the end of the
    block, and its data is deleted.

    Raises:
        SetupError: no broker is configured, and none can be started here.
    """
    given = load_settings().kafka_bootstrap_servers
    if given:
        yield given
        return
    missing = [name for name in ("java", "mvn") if not which(name)]
    missing += [] if _SCRIPT.exists() else [str(_SCRIPT)]
    if missing:
        raise SetupError(
            f"KAFKA_BOOTSTRAP_SERVERS is not set, and {' and '.join(missing)} is missing to start "
            "a broker here: set it to the address of a Kafka broker that allows creating topics, "
            "or install Java 17 and Maven"
        )
    with TemporaryDirectory(prefix="bench-kafka-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / "start.log").open("w", encoding="utf-8") as log:
            command = [str(_SCRIPT), name]
            process = Popen(command, stdout=PIPE, stderr=log, text=True, start_new_session=True)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise SetupError(
                    f"no broker could be started here: {_last_line(folder)}; set "
                    "KAFKA_BOOTSTRAP_SERVERS to the address of one that allows creating topics"
                )
            yield address
        finally:
            _end(process, folder / "pid")


def access(brokers: str) -> KafkaAccess:
    """The access to that broker, with the settings of this process."""
    return kafka_access(load_settings(kafka_bootstrap_servers=brokers))


def environment(brokers: str) -> dict[str, str]:
    """The environment of a child process, with only the settings needed to reach that broker."""
    return child_environment(kafka_environment(load_settings(kafka_bootstrap_servers=brokers)))


def _end(process: Popen[str], broker: Path) -> None:
    """Stop the broker by its pid, so that the script ends; else kill the script's process group."""
    with suppress(OSError, ValueError, TimeoutExpired):  # there is no broker yet, or it is gone
        os.kill(int(broker.read_text()), signal.SIGTERM)
        process.wait(_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _last_line(folder: Path) -> str:
    for name in ("start.log", "kafka.log", "format.log", "maven.log"):
        with suppress(OSError):
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").split("\n")
            if written := [line for line in lines if line.strip()]:
                return written[-1]
    return "no output"
