import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from contract.errors import SetupError, error_of_ours


def _ours(item):
    try:
        int(item)
    except ValueError as error:
        raise SetupError("ours") from error


def _mistake(item):
    try:
        _ours(item)
    except SetupError:
        return item.nothing


@pytest.mark.parametrize(("step", "told"), [(_ours, "ours"), (_mistake, None)])
def test_what_ended_a_flow_is_told_and_not_what_it_had_handled(step, told):
    flow = Dataflow("flow")
    items = op.map("step", op.input("in", flow, TestingSource(["no number"])), step)
    op.output("out", items, TestingSink([]))
    with pytest.raises(RuntimeError) as ended:
        run_main(flow)
    cause = error_of_ours(ended.value)
    assert (cause and str(cause)) == told
