"""Which rows are selected, and what a replay remembers of the log."""

import pickle
from dataclasses import fields

import numpy as np
import pytest

from contract.errors import SetupError
from contract.packet import MAX_TIME_MS, NO_TIME, Packet, pack
from contract.predictions import Predictions
from contract.rollups import Rollups
from dataflows.log.decode import BadRecord, record_columns
from ops.replay.cut import Cut
from ops.replay.moments import Offset, parse_duration, parse_moment
from ops.replay.spans import Part
from ops.replay.tally import Tally


def part(partition, rows_from=0, rows_to=MAX_TIME_MS):
    return Part(partition, 0, 1, 0, rows_from, rows_to, truncated=False)


def packet(device, *readings):
    packet = Packet(
        packet_id="p", device_id=device, device_uuid="d", received_at=0,
        sensor_id=[sensor for sensor, _ in readings], ts=[1000 * ts for _, ts in readings],
        device_ts=None, value=[float(ts) for _, ts in readings], seq=[0] * len(readings),
    )  # fmt: skip
    return pack(packet)


PIECE = record_columns(
    [10, 20, 30], [packet(1, (1, 100), (2, 199), (1, 200)), None, packet(1, (2, 99), (1, 150))]
)


def test_only_readings_of_the_span_and_the_sensors_stay_in_their_records():
    key, cut = Cut([part(3, 100, 200)], None).readings(("3", PIECE))
    assert key == "3"
    assert (cut.readings.ts // 1000).tolist() == [100, 199, 150]
    assert cut.readings.value.tolist() == [100.0, 199.0, 150.0]
    assert cut.readings.device_ts.tolist() == [NO_TIME] * 3
    assert cut.records.count.tolist() == [2, 0, 1]
    assert cut.records.arrival.tolist() == [10, 20, 30]
    _, cut = Cut([part(3, 100, 200)], [1]).readings(("3", PIECE))
    assert (cut.readings.ts // 1000).tolist() == [100, 150]
    assert cut.records.count.tolist() == [1, 0, 1]
    assert Cut([part(3)], None).readings(("3", PIECE)) == ("3", PIECE)


def test_each_partition_has_its_own_span():
    cut = Cut([part(3, 100, 200), part(4, 150, 160)], [1, 2])
    assert cut.readings(("4", PIECE))[1].readings.value.tolist() == [150.0]
    assert [cut.has(3, at, 1) for at in (99, 100, 199, 200)] == [False, True, True, False]
    assert [cut.has(p, 155, 1) for p in (3, 4, 5)] == [True, True, False]
    assert [cut.has(3, 155, sensor) for sensor in (1, 3, None)] == [True, False, False]
    assert Cut([part(3)], None).has(3, 155, None)


def test_rollups_are_selected_by_bucket_and_predictions_by_predicted_at():
    def rows(kind, **columns):
        ones = {field.name: np.arange(3) for field in fields(kind)}
        return kind(**ones | {name: np.array(column) for name, column in columns.items()})

    cut = Cut([part(3, 100, 200)], [1])
    buckets = rows(Rollups, bucket=[100, 200, 150], sensor_id=[1, 1, 2])
    assert cut.rollups(("3", buckets))[1].count.tolist() == [0]
    made = rows(Predictions, predicted_at=[99, 199, 150], sensor_id=[1, 1, 1])
    assert cut.predictions(("3", made))[1].window.tolist() == [1, 2]


def test_a_tally_counts_and_knows_the_first_reading_of_each_device():
    tally = Tally([3, 12])
    keys = tally.list_parts()
    assert [keys[tally.part_fn(key)] for key in ("3", "12")] == keys
    sink = tally.build_part("step", keys[tally.part_fn("12")], None)
    sink.write_batch([PIECE, BadRecord("t", 12, 0, None, "bad"), record_columns([9], [None])])
    kept = pickle.loads(pickle.dumps(sink.snapshot()))  # noqa: S301
    sink.write_batch([record_columns([40], [packet(1, (1, 50))])])
    assert tally.seen[12].since == {1: 50}
    assert (tally.readings, tally.seen[12].bad) == (6, 1)
    again = Tally([3, 12])
    again.build_part("step", keys[1], kept).write_batch([record_columns([9], [packet(2, (5, 7))])])
    assert again.seen[12].since == {1: 99, 2: 7}
    assert again.seen[12].readings == 6
    assert again.seen[3].since == {}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", Offset(0)),
        ("999999999", Offset(999_999_999)),
        ("1000000000", 1_000_000_000_000),
        ("1732442400.25", 1732442400250),
        ("2024-11-24", 1732406400000),
        ("2024-11-24T10:00:00Z", 1732442400000),
        ("2024-11-24 12:00:00.5+02:00", 1732442400500),
    ],
)
def test_a_moment_is_a_time_or_an_offset(text, moment):
    assert parse_moment("--from", text) == moment


@pytest.mark.parametrize("text", ["", "-1", "12.5", "noon", "1e12", "nan", "99999999999999", "²"])
def test_anything_else_is_refused(text):
    with pytest.raises(SetupError, match=r"--to .*: give a time as in"):
        parse_moment("--to", text)


@pytest.mark.parametrize(("text", "ms"), [("90s", 90_000), ("1.5h", 5_400_000), ("1d", 86_400_000)])
def test_a_duration_has_a_unit(text, ms):
    assert parse_duration("--margin", text) == ms
    with pytest.raises(SetupError, match="give a number with s, m, h or d"):
        parse_duration("--margin", text[:-1])
