import numpy as np

from contract.packet import Packet, first_seq, pack
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.log.decode import record_columns
from sinks.readings import reading_rows


def packet(packet_id, received_at, *values, said=None, device=1, version=2):
    """A packet of one sensor's readings, all dated `said` or undated. Times are in milliseconds."""
    count = len(values)
    first = first_seq(packet_id) if version == 2 and said is None else 0
    packet = Packet(
        packet_id=packet_id,
        device_id=device,
        device_uuid="",
        received_at=received_at * 1000,
        sensor_id=[7] * count,
        ts=[(received_at if said is None else said) * 1000] * count,
        device_ts=None if said is None else [said * 1000] * count,
        value=list(values),
        seq=list(range(first, first + count)),
    )
    return pack(packet, version)


def ms(text):
    return int(np.datetime64(text, "ms").astype(int))


def stored(*packets, cut=None):
    """(ts, seq, value) of the rows of the packets, which are split into two pieces at `cut`."""
    logic, rows = DuplicateLogic(None), []
    for part in (packets[:cut], packets[cut:]) if cut else (packets,):
        (marked,), _ = logic.on_batch([record_columns([0] * len(part), list(part))])
        rows += [(ms(row[4]), row[5], row[1]) for row in reading_rows(marked)]
        logic = DuplicateLogic(logic.snapshot())
    return rows


def test_undated_packets_of_the_same_time_get_separate_rows():
    a, b = first_seq("a"), first_seq("b")
    assert a != b
    packets = [packet("a", 5, 1.0, 2.0), packet("b", 5, 1.0)]
    rows = [(5, a, 1.0), (5, a + 1, 2.0), (5, b, 1.0)]
    assert stored(*packets) == stored(*packets, cut=1) == rows


def test_undated_version_1_packets_of_the_same_millisecond_get_separate_rows():
    packets = [
        packet("a", 5, 1.0, 2.0, version=1),
        packet("b", 5, 3.0, version=1),
        packet("c", 6, 4.0, version=1),
        packet("d", 5, 5.0, version=1),
    ]
    rows = [(5, 0, 1.0), (5, 1, 2.0), (5, 1000, 3.0), (6, 0, 4.0), (5, 2000, 5.0)]
    assert stored(*packets) == rows
    assert stored(*packets, cut=1) == stored(*packets, cut=3) == rows


def test_a_retry_of_an_undated_packet_adds_no_row():
    for version, seq in ((1, 0), (2, first_seq("a"))):
        packets = [packet("a", at, 1.0, version=version) for at in (5, 9)]
        assert stored(*packets) == stored(*packets, cut=1) == [(5, seq, 1.0)]


def test_a_dated_reading_is_stored_under_its_date_regardless_of_its_packet_id():
    packets = [packet("same", 5, 1.0, said=1), packet("same", 6, 2.0, said=2)]
    assert stored(*packets) == [(1, 0, 1.0), (2, 0, 2.0)]
    assert stored(packet("a", 5, 1.0, said=1), packet("b", 5, 2.0, said=2)) == [
        (1, 0, 1.0),
        (2, 0, 2.0),
    ]


def test_devices_do_not_share_packet_ids():
    rows = stored(packet("a", 5, 1.0, device=1), packet("a", 5, 1.0, device=2))
    assert rows == [(5, first_seq("a"), 1.0)] * 2


def test_a_snapshot_of_version_1_is_restored():
    old = (1, {1: ([record_columns([0], [packet("a", 5)]).records.packet_hash[0].item()], [5])})
    logic = DuplicateLogic(old)
    again = record_columns([0, 0], [packet("a", 9, 1.0), packet("b", 5, 1.0, version=1)])
    (marked,), _ = logic.on_batch([again])
    assert marked.records.fresh.tolist() == [False, True]
    assert marked.readings.seq.tolist() == [first_seq("a"), 1000]
