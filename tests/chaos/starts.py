"""The flow started and stopped hundreds of times on a machine that is too busy for it.

Some crashes need a thread to lose its turn at the wrong moment, mostly while clients connect.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from random import Random
from subprocess import DEVNULL, Popen
from time import monotonic, sleep

from contract.settings import child_environment, load_settings
from ops.children import Children
from tests.chaos.flows import Flow, until
from tests.chaos.kafka import Kafka, why_not

_LONGEST_S = 1.0
"""How long a flow runs after its start, at most."""
_TOLD = 50


def starts(runs: int, busy: int, together: int, folder: Path, say: Callable[[str], None]) -> dict:
    """Start and stop flows `runs` times in all, `together` at a time, beside `busy` processes that
    only use the CPU; what was seen.

    Raises:
        DifferenceError: a flow ended in another way than asked, or does not work in the end.
    """
    with ExitStack() as stack:
        children = stack.enter_context(Children(folder))
        brokers = stack.enter_context(_broker(folder, children))
        flows = [Flow(folder / str(number), brokers) for number in range(together)]
        for flow in flows:
            stack.enter_context(closing(flow))
        for _ in range(busy):
            stack.enter_context(_busy())
        began, random, done = monotonic(), Random(1), 0
        while done < runs:
            batch = flows[: runs - done]
            _start_and_stop(batch, random, check=done + len(batch) >= runs)
            done += len(batch)
            if done % _TOLD < len(batch):
                say(f"{done} starts and stops, {monotonic() - began:.0f} s")
        return {
            "starts": done,
            "busy_processes": busy,
            "together": together,
            "broker": "in memory" if why_not() else "Apache Kafka",
            "seconds": round(monotonic() - began),
        }


def _start_and_stop(flows: list[Flow], random: Random, *, check: bool) -> None:
    """Start the flows at once and stop them at once; with `check` each stores a reading between."""
    for flow in flows:
        flow.start()
    for flow in flows:
        until(flow.ready, "a flow starts")
    if check:
        for flow in flows:
            flow.store_one()
    sleep(random.uniform(0, _LONGEST_S))
    for flow in flows:
        flow.check()
        flow.ask_to_stop()
    for flow in flows:
        flow.wait_stopped()


@contextmanager
def _broker(folder: Path, children: Children):
    """The address of the broker: the one that is given, a real one, or the one in memory."""
    if given := load_settings().kafka_bootstrap_servers:
        yield given
    elif why_not():
        broker = children.start("broker", "ops.broker", env=child_environment({}))
        yield broker.process.stdout.readline().strip()
    else:
        with Kafka(folder / "kafka") as kafka:
            yield kafka.start()


@contextmanager
def _busy():
    """A process that only uses the CPU."""
    process = Popen([sys.executable, "-c", "while True: pass"], stdin=DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
