from csv import DictReader
from json import dumps

import numpy as np
import pytest

from bench import nab
from bench.nab import LabelledSeries, load, rate_scores
from contract.errors import SetupError


def series(points, *windows):
    window = np.full(points, -1)
    for index, (first, last) in enumerate(windows):
        window[first:last] = index
    return LabelledSeries(
        "a/b.csv",
        [""] * points,
        np.arange(points) * 1000,
        np.zeros(points),
        window,
        len(windows),
    )


def score(points, **at):
    given = np.zeros(points)
    for place, value in at.items():
        given[int(place[1:])] = value
    return given


def test_any_alarm_in_a_window_finds_it_and_the_delay_counts_from_its_start():
    file = series(2000, (1000, 1100), (1500, 1600))
    rating = rate_scores([file], [score(2000, _1030=5.0, _1090=9.0)])
    assert rating.found == 0.5
    assert rating.median_delay_points == 30
    assert rating.alarms_per_1000 == 0


def test_the_bound_is_the_lowest_with_at_most_one_alarm_per_1000_points_outside():
    file = series(4000, (3000, 3100))
    outside = {f"_{700 + 100 * index}": 9.0 - index for index in range(9)}
    rating = rate_scores([file], [score(4000, **outside, _3050=6.5)])
    assert (
        rating.bound == 6.5
    )  # 3 300 points count outside: 3 alarms (9, 8, 7) are allowed, a 4th (6) is not
    assert rating.found == 1
    assert rating.alarms_per_1000 == pytest.approx(3 / 3.3)


def test_an_alarm_mutes_the_next_50_points():
    file = series(4000, (3000, 3100))
    burst = {f"_{1000 + index}": 8.0 for index in range(51)}
    rating = rate_scores([file], [score(4000, **burst, _1200=7.0, _1300=7.0, _3050=7.0)])
    assert (rating.bound, rating.found) == (7.0, 1)
    rating = rate_scores([file], [score(4000, **burst, _1051=8.0, _1200=7.0, _1300=7.0, _3050=7.0)])
    assert (rating.bound, rating.found) == (8.0, 0)


def test_points_in_the_probation_period_do_not_count():
    file = series(4000, (3000, 3100))
    early = {f"_{index}": 9.0 for index in range(0, 600, 60)}
    assert rate_scores([file], [score(4000, **early, _3050=1.0)]).found == 1


def test_files_are_scored_and_written_for_nabs_scorer(tmp_path):
    progress: list[str] = []
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "some").mkdir(parents=True)
    stamps = np.arange("2014-01-01", "2014-01-03", 300, dtype="datetime64[s]")
    lines = [f"{str(stamp).replace('T', ' ')},{index % 7}" for index, stamp in enumerate(stamps)]
    (data / "some" / "file.csv").write_text("\n".join(("timestamp,value", *lines)) + "\n")
    window = ["2014-01-02 00:00:00.000000", "2014-01-02 01:00:00.000000"]
    (data / "windows.json").write_text(dumps({"some/file.csv": [window]}))
    ours = {name: nab.DETECTORS[name] for name in ("light", "deep")}
    result = nab.run(data, out, progress.append, ours)
    assert len(progress) == 2
    assert set(result.figures) == {
        f"{prefix}{name}"
        for prefix in ("", "light_")
        for name in ("found", "alarms_per_1000", "median_delay_points", "points_per_s")
    }
    with (out / "deep" / "some" / "deep_file.csv").open(newline="") as file:
        written = list(DictReader(file))
    assert list(written[0]) == ["timestamp", "value", "anomaly_score", "label"]
    assert [line["timestamp"] for line in written] == [line.split(",")[0] for line in lines]
    assert sum(line["label"] == "1" for line in written) == 13
    assert all(0 <= float(line["anomaly_score"]) <= 1 for line in written)


def test_a_folder_without_windows_is_refused(tmp_path):
    with pytest.raises(SetupError, match="NAB"):
        load(tmp_path)
