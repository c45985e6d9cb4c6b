import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sinks.decimals import rounded

NEAR_MIDDLE = st.builds(
    lambda n, d: (n + 0.5) / 1e5 + d, st.integers(-(10**14), 10**14), st.floats(-1e-9, 1e-9)
)


@given(st.lists(st.floats(-1e10, 1e10) | NEAR_MIDDLE, max_size=50))
def test_values_are_rounded_like_python_does(values):
    assert rounded(np.array(values)).tolist() == [round(value, 5) for value in values]
