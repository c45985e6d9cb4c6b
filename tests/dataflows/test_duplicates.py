import numpy as np

from contract.packet import Packet
from dataflows.decode import packet_columns
from dataflows.duplicates import DuplicateLogic
from sinks.readings import reading_rows


def packet(packet_id, received_at, *values, said=None, device=1):
    """A packet of one sensor's readings, all dated `said`, or not dated."""
    count = len(values)
    return Packet(
        packet_id=packet_id,
        device_id=device,
        device_uuid="",
        received_at=received_at,
        sensor_id=[7] * count,
        ts=[received_at if said is None else said] * count,
        device_ts=None if said is None else [said] * count,
        value=list(values),
        seq=list(range(count)),
    )


def ms(text):
    return int(np.datetime64(text, "ms").astype(int))


def stored(*packets, cut=None):
    """(ts, seq, value) of the rows that the packets lead to, taken in two pieces at `cut`."""
    logic, rows = DuplicateLogic(None), []
    for part in (packets[:cut], packets[cut:]) if cut else (packets,):
        (marked,), _ = logic.on_batch([packet_columns([0] * len(part), list(part))])
        rows += [(ms(row[4]), row[5], row[1]) for row in reading_rows(marked)]
        logic = DuplicateLogic(logic.snapshot())
    return rows


def test_undated_packets_of_one_millisecond_are_rows_of_their_own():
    packets = [
        packet("a", 5, 1.0, 2.0),
        packet("b", 5, 3.0),
        packet("c", 6, 4.0),
        packet("d", 5, 5.0),
    ]
    rows = [(5, 0, 1.0), (5, 1, 2.0), (5, 1000, 3.0), (6, 0, 4.0), (5, 2000, 5.0)]
    assert stored(*packets) == rows
    assert stored(*packets, cut=1) == stored(*packets, cut=3) == rows


def test_a_retry_of_an_undated_packet_adds_no_row():
    assert stored(packet("a", 5, 1.0), packet("a", 9, 1.0)) == [(5, 0, 1.0)]
    assert stored(packet("a", 5, 1.0), packet("a", 9, 1.0), cut=1) == [(5, 0, 1.0)]


def test_a_dated_reading_is_stored_under_its_date_whatever_its_packet_is_called():
    packets = [packet("same", 5, 1.0, said=1), packet("same", 6, 2.0, said=2)]
    assert stored(*packets) == [(1, 0, 1.0), (2, 0, 2.0)]
    assert stored(packet("a", 5, 1.0, said=1), packet("b", 5, 2.0, said=2)) == [
        (1, 0, 1.0),
        (2, 0, 2.0),
    ]


def test_devices_do_not_share_packet_ids():
    rows = stored(packet("a", 5, 1.0, device=1), packet("a", 5, 1.0, device=2))
    assert rows == [(5, 0, 1.0)] * 2
