import pytest

from contract.errors import SetupError
from ops.devices import RegisteredDevice
from ops.feed import CsvSeries, packets, read_csv

DEVICE = RegisteredDevice("d", "rig", {"a": "ua", "b": "ub"})


def csv(tmp_path, text):
    path = tmp_path / "file.csv"
    path.write_text(text)
    return path


def test_both_layouts_are_read(tmp_path):
    skab = "datetime;a;b;anomaly;changepoint\n2020-03-09 10:14:33;1.5;2;0.0;0.0\n"
    assert read_csv(csv(tmp_path, skab)) == CsvSeries(["a", "b"], [1583748873000], [[1.5, 2.0]])
    nab = "timestamp,value\n2014-07-01 00:00:00.500,10844\n"
    assert read_csv(csv(tmp_path, nab)) == CsvSeries(["value"], [1404172800500], [[10844.0]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header"),
        ("time\n1\n", "no header"),
        ("time,a\nnow,1\n", "line 2: 'now' is not an ISO-8601 time"),
        ("time,a\n2020-01-01,x\n", "line 2, column a: 'x' is not a number"),
        ("time,a\n2020-01-01,nan\n", "line 2, column a"),
        ("time,a\n2020-01-01,1,2\n", "line 2: 3 cells under 2 names"),
        ("time,a\n2020-01-01,1e10\n", "line 2, column a: '1e10' is not a number below 1e10"),
        ("time,a\n0001-01-01T00:00:00+14:00,1\n", "between 1970 and 9998"),
        ("time,a\n1969-12-31 23:59:59,1\n", "between 1970 and 9998"),
        (
            "time,a\n" + "2020-01-01,1\n" * 1001,
            "line 1002: more than 1000 values with the same time",
        ),
        ("time," + "a" * 256 + "\n", "1 to 255 characters"),
        ("time,a,\n", "1 to 255 characters"),
        ("time,a\n2020-01-01," + "9" * 200_000, "cannot be read: field larger"),
    ],
)
def test_an_invalid_file_is_refused_with_line_and_column(tmp_path, text, words):
    with pytest.raises(SetupError, match=words):
        read_csv(csv(tmp_path, text))


def values(series, together):
    made = packets(series, DEVICE, together)
    return [(at, [reading["value"] for reading in packet["readings"]]) for at, packet in made]


def test_a_packet_has_the_rows_of_one_time_or_up_to_its_limit():
    series = CsvSeries(["a", "b"], [0, 0, 5], [[1, None], [2, 3], [4, 5]])
    assert values(series, together=False) == [(0, [1, 2, 3]), (5, [4, 5])]
    assert values(series, together=True) == [(5, [1, 2, 3, 4, 5])]


def test_rows_of_one_time_are_never_split():
    series = CsvSeries(["a", "b"], [n // 3 for n in range(1500)], [[n, n] for n in range(1500)])
    for _, packet in packets(series, DEVICE, together=True):
        times = [reading["ts"] for reading in packet["readings"]]
        assert len(times) <= 1000
        assert len(times) % 6 == 0
