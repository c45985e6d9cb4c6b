"""Crashing flows are detected. `docs/guarantees.md` describes the long tests."""

import signal
from contextlib import closing

import pytest

from tests.chaos.flows import Flow, until
from tests.chaos.rig import DifferenceError


def test_a_flow_that_crashes_is_reported_by_its_signal_and_with_its_stack(tmp_path, brokers):
    with closing(Flow(tmp_path / "0", brokers)) as flow:
        flow.start()
        until(flow.ready, "a flow starts")
        flow.store_one()
        flow._process.send_signal(signal.SIGSEGV)
        flow._process.wait()
        with pytest.raises(DifferenceError, match="died of SIGSEGV") as raised:
            flow.check()
        assert "Fatal Python error: Segmentation fault" in flow._child.log.read_text()
        assert 'File "' in str(raised.value)  # the end of its stack
        flow.start()
        until(flow.ready, "a flow starts again")
        flow.store_one()
        flow.ask_to_stop()
        flow.wait_stopped()
        assert flow.said("flow starts") == 2
