"""The state that a flow keeps between runs: its recovery stores, and who holds them."""

from dataflows.state.claims import Claim, arrange, claimed_stores, in_use
from dataflows.state.stores import (
    FLOW,
    MARK,
    WATCH,
    check_store,
    make_store,
    read_states,
    store_files,
)

__all__ = [
    "FLOW",
    "MARK",
    "WATCH",
    "Claim",
    "arrange",
    "check_store",
    "claimed_stores",
    "in_use",
    "make_store",
    "read_states",
    "store_files",
]
