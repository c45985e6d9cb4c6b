import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest

from contract.errors import SetupError
from contract.partitions import parse_partitions
from dataflows.state import claims
from dataflows.state.claims import Claim, FlowArguments, arrange, claim
from dataflows.state.stores import make_store, read_states, write_states
from tests.dataflows.state.test_stores import states

HOLDER = """
import sys
from pathlib import Path
from dataflows.state.claims import Claim, claim
claim(Path(sys.argv[1]), Claim("t", sys.argv[2]), cluster=len(sys.argv) > 3)
print("held", flush=True)
sys.stdin.read()
"""


def ranges(*texts):
    return [parse_partitions(text) for text in texts]


def names(root):
    return sorted(path.name for path in root.iterdir())


def held(directory, partitions, *more):
    """A process that holds a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory), partitions, *more],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


def test_the_arguments_of_bytewax_are_parsed_among_others():
    given = FlowArguments.of(["dataflows.readings:flow()", "-r", "there", "-s", "10", "-b", "0"])
    assert given == FlowArguments(Path("there"), cluster=False)
    assert FlowArguments.of(["f", "--recovery-directory=x", "-i", "0", "-a", "a;b"]).cluster
    assert FlowArguments.of(["f"]).directory is None


def test_overlapping_ranges_in_one_root_are_refused(tmp_path):
    for name in ("a", "b", "c"):
        make_store(tmp_path / name)
    claim(tmp_path / "a", Claim("t", "0-5"))
    with pytest.raises(SetupError, match=r"KAFKA_PARTITIONS: .*/a has the state of partition 4-5"):
        claim(tmp_path / "b", Claim("t", "4-8"))
    claim(tmp_path / "b", Claim("t", "6-8"))
    claim(tmp_path / "c", Claim("another topic", "0-11"))


def test_a_directory_without_a_store_is_refused_and_the_error_says_how_to_create_one(tmp_path):
    with pytest.raises(SetupError, match=r"bytewax\.recovery .*/none 1.*iot run"):
        claim(tmp_path / "none", Claim("t", "0"))


def test_a_directory_with_the_state_of_something_else_is_refused(tmp_path):
    write_states(tmp_path / "a", {})
    (tmp_path / "a" / "claim.json").write_text('{"topic": "t", "partitions": "0-5"}')
    with pytest.raises(SetupError, match=r"has the state of the partitions 0-5, .* takes 0-3"):
        claim(tmp_path / "a", Claim("t", "0-3"))
    with pytest.raises(SetupError, match=r"has the state of the topic t, .* is u"):
        claim(tmp_path / "a", Claim("u", "0-5"))


def test_a_topic_with_added_partitions_continues_in_its_directory(tmp_path):
    make_store(tmp_path / "a")
    (tmp_path / "a" / "claim.json").write_text('{"topic": "t", "partitions": "0-5"}')
    claim(tmp_path / "a", Claim("t", "0-11"))
    assert '"0-11"' in (tmp_path / "a" / "claim.json").read_text()


def test_a_claim_that_cannot_be_written_is_reported_and_the_old_one_stays(tmp_path):
    make_store(tmp_path / "a")
    (tmp_path / "a" / "claim.json").write_text('{"topic": "t", "partitions": "0-5"}')
    (tmp_path / "a" / "claim.json~").mkdir()  # simulates a full disk
    holder = subprocess.run(
        [sys.executable, "-c", HOLDER, str(tmp_path / "a"), "0-11"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cannot be used: Is a directory" in holder.stderr
    assert claim_of(tmp_path / "a") == Claim("t", "0-5")


def test_a_second_process_on_a_directory_is_refused_until_the_first_ends(tmp_path):
    make_store(tmp_path / "a")
    first = held(tmp_path / "a", "0-5")
    with pytest.raises(SetupError, match=r"another process is running on .*/a"):
        claim(tmp_path / "a", Claim("t", "0-5"))
    first.communicate("")
    claim(tmp_path / "a", Claim("t", "0-5"))


def test_processes_of_a_cluster_share_a_directory(tmp_path):
    make_store(tmp_path / "a")
    first = held(tmp_path / "a", "0-5", "cluster")
    claim(tmp_path / "a", Claim("t", "0-5"), cluster=True)
    first.communicate("")


def test_states_move_with_their_partitions_and_come_back(tmp_path):
    everything = states(*range(12))
    root = tmp_path / "root"
    arrange(root, "t", ranges("0-11"))
    write_over(root / "0-11", everything)
    for wanted in (("0-5", "6-11"), ("0-3", "4-7", "8-11"), ("0-5", "6-11"), ("0-11",)):
        assert arrange(root, "t", ranges(*wanted)) == [root / name for name in wanted]
        assert names(root) == sorted(wanted)
        for name in wanted:
            numbers = parse_partitions(name)
            assert read_states(root / name, range(12)) == {
                number: state for number, state in everything.items() if number in numbers
            }
            assert claim_of(root / name) == Claim("t", name)


def write_over(directory, found):
    for file in directory.glob("part-*"):
        file.unlink()
    write_states(directory, found)


def claim_of(directory):
    return claims._claim_of(directory)


def test_a_store_in_the_root_itself_moves_into_a_directory(tmp_path):
    write_states(tmp_path / "root", states(0, 3))
    arrange(tmp_path / "root", "t", ranges("0-3"))
    assert names(tmp_path / "root") == ["0-3"]
    assert read_states(tmp_path / "root" / "0-3", range(4)) == states(0, 3)


def test_the_state_of_another_topic_stays_where_it_is(tmp_path):
    root = tmp_path / "root"
    arrange(root, "t", ranges("0-3"))
    write_over(root / "0-3", states(0, 3))
    with pytest.raises(SetupError, match=r"/0-3 has the state of the topic t, .* is u"):
        arrange(root, "u", ranges("0-3"))
    assert arrange(root, "t", ranges("0-3")) == [root / "0-3"]
    assert read_states(root / "0-3", range(4)) == states(0, 3)


def test_a_directory_that_is_not_a_store_is_reported(tmp_path):
    root = tmp_path / "root"
    (root / "0-3" / "lost+found").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"/0-3 exists and is not a recovery store"):
        arrange(root, "t", ranges("0-3"))
    (root / "0-3" / "lost+found").rmdir()
    assert arrange(root, "t", ranges("0-3")) == [root / "0-3"]


def test_a_directory_on_another_disk_moves_as_well(tmp_path):
    root, disk = tmp_path / "root", tmp_path / "disk"
    arrange(root, "t", ranges("0-3"))
    write_over(root / "0-3", states(0, 3))
    (root / "0-3").rename(disk)
    (root / "0-3").symlink_to(disk)
    arrange(root, "t", ranges("0-1", "2-3"))
    assert names(root) == ["0-1", "2-3"]
    assert read_states(root / "2-3", range(4)) == states(3)


def test_nothing_moves_while_a_process_is_running(tmp_path):
    root = tmp_path / "root"
    arrange(root, "t", ranges("0-5", "6-11"))
    running = held(root / "6-11", "6-11")
    assert arrange(root, "t", ranges("0-5", "6-11"))
    with pytest.raises(SetupError, match=r"another process is running on .*/6-11"):
        arrange(root, "t", ranges("0-11"))
    assert names(root) == ["0-5", "6-11"]
    running.communicate("")


def test_a_process_that_is_running_on_the_root_itself_is_reported_at_once(tmp_path):
    root = tmp_path / "root"
    make_store(root)
    running = held(root, "0-3")
    with pytest.raises(SetupError, match=r"another process is running on .*/root: stop it first"):
        arrange(root, "t", ranges("0-3"))
    running.communicate("")
    assert arrange(root, "t", ranges("0-3")) == [root / "0-3"]


def test_a_state_that_no_process_would_take_is_not_deleted(tmp_path):
    root = tmp_path / "root"
    arrange(root, "t", ranges("0-11"))
    write_over(root / "0-11", states(*range(12)))
    with pytest.raises(SetupError, match="has the state of partition 6-11, which no process"):
        arrange(root, "t", ranges("0-5"))
    assert names(root) == ["0-11"]


def test_partitions_without_a_state_can_be_left_out(tmp_path):
    root = tmp_path / "root"
    arrange(root, "t", ranges("0-11"))
    write_over(root / "0-11", states(0, 5))
    arrange(root, "t", ranges("0-5"))
    assert names(root) == ["0-5"]
    assert read_states(root / "0-5", range(12)) == states(0, 5)


def test_a_copy_of_a_directory_in_the_root_is_reported_and_nothing_moves(tmp_path):
    root = tmp_path / "root"
    arrange(root, "t", ranges("0-5"))
    write_over(root / "0-5", states(0, 5))
    copytree(root / "0-5", root / "0-5.old")
    with pytest.raises(SetupError, match=r"/0-5 and .*/0-5\.old both have the state of .* 0,5"):
        arrange(root, "t", ranges("0-5"))
    assert names(root) == ["0-5", "0-5.old"]


@pytest.mark.parametrize("cut_off", range(20))
def test_an_interrupted_move_is_completed_or_rolled_back(tmp_path, cut_off):
    root, other = tmp_path / "root", tmp_path / "tmp"
    other.mkdir()
    arrange(root, "t", ranges("0-3", "4-7", "8-11"))
    for name in names(root):
        write_over(root / name, states(*parse_partitions(name)))
    mover = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(root), str(cut_off)],
        env=dict(os.environ, TMPDIR=str(other)), check=False, capture_output=True,
    )  # fmt: skip
    assert mover.returncode in (0, 9), mover.stderr
    wanted = ("0-3", "4-11")
    arrange(root, "t", ranges(*wanted))
    assert names(root) == ["0-3", "4-11"]
    assert names(other) == []
    for name in wanted:
        assert read_states(root / name, range(12)) == states(*parse_partitions(name))


CUT_OFF = """
import os, sys
from pathlib import Path
from contract.partitions import parse_partitions
from dataflows.state.claims import arrange
left = int(sys.argv[2])
def count(event, arguments):
    global left
    if event in ("os.rename", "shutil.rmtree") or event == "os.mkdir" and ".new" in str(arguments):
        if left == 0:
            os._exit(9)
        left -= 1
sys.addaudithook(count)
arrange(Path(sys.argv[1]), "t", [parse_partitions(text) for text in ("0-3", "4-11")])
"""


def test_a_root_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(SetupError, match="root cannot be used"):
        arrange(tmp_path / "root", "t", ranges("0"))
