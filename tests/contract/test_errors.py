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


@pytest.mark.parametrize(("step", "cause"), [(_ours, "ours"), (_mistake, None)])
def test_the_cause_of_a_failed_flow_is_found_but_not_an_error_it_handled(step, cause):
    flow = Dataflow("flow")
    items = op.map("step", op.input("in", flow, TestingSource(["no number"])), step)
    op.output("out", items, TestingSink([]))
    with pytest.raises(RuntimeError) as ended:
        run_main(flow)
    error = error_of_ours(ended.value)
    assert (error and str(error)) == cause
