"""Our own real Kafka, which can be stopped and restarted with its data."""

import json
import os
from contextlib import suppress
from pathlib import Path
from shutil import which
from signal import SIGKILL, SIGTERM
from subprocess import PIPE, Popen, TimeoutExpired, run

_SCRIPT = Path(__file__).parents[2] / ".ci" / "kafka"
_STOP_S = 30.0


def why_not() -> str | None:
    """Why no Kafka can be started here. None if one can."""
    missing = [name for name in ("java", "mvn") if not which(name)]
    return f"{' and '.join(missing)} cannot be found" if missing else None


class Kafka:
    """One broker with its data in `folder`. `certificates` is passed to `.ci/kafka`."""

    def __init__(self, folder: Path, certificates: Path | None = None) -> None:
        self._folder = folder
        self._certificates = certificates
        self._script: Popen[str] | None = None
        self.address = ""
        self.secured: list[str] = []
        """The addresses of the further listeners."""

    def __enter__(self) -> "Kafka":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> str:
        """Its address, the same after each start."""
        self._folder.mkdir(exist_ok=True)
        with (self._folder / "start.log").open("a") as log:
            self._script = Popen(
                [str(_SCRIPT), str(self._folder), str(self._certificates or "")],
                stdout=PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        addresses = self._script.stdout.readline().split()
        assert addresses, f"no broker could be started: see the logs in {self._folder}"
        self.address, *self.secured = addresses
        return self.address

    @property
    def data(self) -> Path:
        """Its data, which can be copied or replaced while it is stopped."""
        return self._folder / "data"

    @property
    def pid(self) -> int:
        return int((self._folder / "pid").read_text())

    def forget(self, before: dict[tuple[str, int], int]) -> None:
        """Delete the records of each (topic, partition) before an offset."""
        partitions = [
            {"topic": topic, "partition": partition, "offset": offset}
            for (topic, partition), offset in before.items()
        ]
        plan = self._folder / "delete.json"
        plan.write_text(json.dumps({"version": 1, "partitions": partitions}))
        run(
            [which("java") or "", "-cp", f"{self._folder}/libs/*",
             "org.apache.kafka.tools.DeleteRecordsCommand",
             "--bootstrap-server", self.address, "--offset-json-file", str(plan)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def stop(self, number: int = SIGTERM) -> None:
        """Send the signal, and wait until it has ended."""
        if self._script is None:
            return
        with suppress(OSError, ValueError, TimeoutExpired):  # it is gone, or takes too long
            os.kill(self.pid, number)
            self._script.wait(_STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self._script.pid, SIGKILL)
        self._script.wait()
        self._script.stdout.close()
        self._script = None
