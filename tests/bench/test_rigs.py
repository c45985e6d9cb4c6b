import numpy as np
import pytest

from bench import detector, skab
from contract.errors import SetupError


def write(folder, shifted):
    """Write a rig whose first sensor is shifted from point 500 to 550, and one without labels."""
    rng = np.random.default_rng(0)
    value = rng.normal(size=(600, 8))
    anomaly = (np.arange(600) >= 500) & (np.arange(600) < 550)
    value[anomaly, 0] += shifted
    value[300] += 100
    stamps = np.arange("2020-03-01", 600, dtype="datetime64[s]")
    lines = [
        ";".join([str(stamp).replace("T", " "), *map(str, values), str(float(label)), "0.0"])
        for stamp, values, label in zip(stamps, value, anomaly, strict=True)
    ]
    head = ";".join(["datetime", *"abcdefgh", "anomaly", "changepoint"])
    folder.mkdir(parents=True)
    (folder / "1.csv").write_text("\n".join((head, *lines)) + "\n")
    (folder.parent / "anomaly-free").mkdir()
    (folder.parent / "anomaly-free" / "1.csv").write_text("datetime\n")


def test_a_point_is_detected_if_any_sensor_of_the_rig_is_warn(tmp_path):
    write(tmp_path / "valve1", 50.0)
    result = skab.run(tmp_path)
    for prefix in ("", "light_"):
        assert result.figures[f"{prefix}missed_alarm_rate"] < 0.05
        assert result.figures[f"{prefix}false_alarm_rate"] < 0.3
        assert result.figures[f"{prefix}f1_after"] >= result.figures[f"{prefix}f1"] - 1e-9
    assert {name for name, *_ in result.rows} >= {"isolation_forest", "t_squared"}


def test_points_of_the_learning_period_are_normal_and_raise_no_alarm(tmp_path):
    write(tmp_path / "valve1", 0.0)
    figures = skab.run(tmp_path).figures
    assert figures["false_alarm_rate"] * 550 == pytest.approx(
        figures["false_alarm_rate_after"] * 150, abs=0.1
    )


def test_a_folder_without_rigs_is_refused(tmp_path):
    with pytest.raises(SetupError, match="SKAB"):
        skab.load(tmp_path)


def test_the_light_detectors_speed_is_measured():
    result = detector.run(rounds=1)
    assert set(result.figures) == {
        "panes_per_s",
        "panes_per_s_half",
        "panes_per_s_tenth",
        "bytes_per_sensor",
    }
    assert 0 < result.figures["bytes_per_sensor"] <= 512
