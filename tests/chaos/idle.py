"""Flows that have nothing to do for minutes, while their broker stands still and is killed.

An idle flow queries every second where its partitions end, and does little else.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from time import monotonic, sleep

from contract.settings import child_environment
from ops.children import Children
from tests.chaos.flows import Flow, until
from tests.chaos.kafka import Kafka, why_not
from tests.chaos.rig import DifferenceError

_AWAY_S = 15.0
AWAY, BACK = "broker unreachable, waiting for it", "broker back"


def idle(flows: int, minutes: float, folder: Path, say: Callable[[str], None]) -> dict:
    """Let `flows` flows be idle; after a third of the time the broker stands still for 15 s, after
    two thirds it is killed and started again where it is a real one, else it stands still again.

    Raises:
        DifferenceError: a flow has ended, did not notice, or does not work in the end.
    """
    with ExitStack() as stack:
        children = stack.enter_context(Children(folder))
        if why_not():
            broker = children.start("broker", "ops.broker", env=child_environment({}))
            brokers = broker.process.stdout.readline().strip()
            harms = [lambda: _stand_still(broker.process.pid)] * 2
        else:
            kafka = stack.enter_context(Kafka(folder / "kafka"))
            brokers = kafka.start()
            harms = [lambda: _stand_still(kafka.pid), lambda: _kill(kafka)]
        running = [Flow(folder / str(number), brokers) for number in range(flows)]
        for flow in running:
            stack.enter_context(closing(flow))
            flow.start()
        for flow in running:
            until(flow.ready, "a flow starts")
            flow.store_one()
        say(f"{flows} flows are idle, in {folder}")
        began, part_s, found_s = monotonic(), minutes * 60 / 3, []
        for number in range(3):
            _watch(running, began + (number + 1) * part_s)
            if number < len(harms):
                harms[number]()
                found_s.append(_found_again_s(running))
                say(f"the broker was away, and was found again after {found_s[-1]:.1f} s")
        for flow in running:
            flow.store_one()
        seconds = monotonic() - began
        away = [flow.said(AWAY) for flow in running]
        if min(away) < len(harms):
            raise DifferenceError(f"the broker was down twice, but flows noticed it {away} times")
        for flow in running:
            flow.ask_to_stop()
        for flow in running:
            flow.wait_stopped()
        return {
            "flows": flows,
            "seconds": round(seconds),
            "broker": "in memory" if why_not() else "Apache Kafka",
            "broker_stopped": len(harms),
            "found_again_s": found_s,
            "away_noticed": away,
            "back_noticed": [flow.said(BACK) for flow in running],
        }


def _found_again_s(flows: list[Flow]) -> float:
    """Seconds until all flows have heard from the broker."""
    began = monotonic()
    for flow in flows:
        until(flow.ready, "the broker is found again")
    return round(monotonic() - began, 1)


def _watch(flows: list[Flow], end: float) -> None:
    while monotonic() < end:
        for flow in flows:
            flow.check()
        sleep(0.5)


def _stand_still(pid: int) -> None:
    os.kill(pid, SIGSTOP)
    try:
        sleep(_AWAY_S)
    finally:
        os.kill(pid, SIGCONT)


def _kill(kafka: Kafka) -> None:
    kafka.stop(SIGKILL)
    sleep(_AWAY_S)
    kafka.start()
