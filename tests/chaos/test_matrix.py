"""A few runs of the crash matrix; `make chaos` has the rest."""

import sys
from subprocess import run

from contract.settings import child_environment
from tests.chaos.matrix import POINTS, case_of


def test_programs_killed_at_named_points_leave_the_tables_of_an_undisturbed_run(brokers):
    ended = run(
        [sys.executable, "-m", "tests.chaos", "matrix", "--runs", "4", "--seed", "31"],
        env=child_environment({"KAFKA_BOOTSTRAP_SERVERS": brokers}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(": ok") == 4


def test_consecutive_seeds_cover_all_points_with_one_and_two_flow_processes():
    cases = [case_of(seed) for seed in range(7, 7 + 2 * len(POINTS))]
    assert {(case.program, case.point, case.processes) for case in cases} == {
        (*point, processes) for point in POINTS for processes in (1, 2)
    }
    assert all(1 <= case.nth <= POINTS[case.program, case.point][1] for case in cases)
