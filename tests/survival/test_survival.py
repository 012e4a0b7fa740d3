"""The scripts of this folder, a few times; docs/reliability.md has what many gave."""

import pytest

import disk
import kill
import kill_peer
from commands import finish, printed_by, start, start_together, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("norm, kills", [("bn", 1), ("gn_ws", 2)])
def test_killed_run_ends_as_the_undisturbed_one_to_the_last_bit(norm, kills, tmp_path):
    kill.main(kills, 0, norm, tmp_path)


def test_process_whose_peer_is_killed_says_so_and_both_resume(tmp_path):
    arguments = ["--run.checkpoint-steps=2", "--steps=40"]
    kill_peer.kill_one(tmp_path / "run", 1, kill_peer.Kill(), *arguments)
    kill_peer.resume(tmp_path / "run", *arguments)


@pytest.mark.parametrize("harm", ["row", "deleted"])
def test_disk_that_fails_under_a_run_is_a_sentence_and_the_state_is_kept(
    harm, tmp_path
):
    disk.try_once(harm, tmp_path / "run", 0.1)


def test_second_run_in_a_folder_is_refused_and_told_which_process_holds_it(tmp_path):
    workdir, lock = tmp_path / "run", tmp_path / "run" / "lock"
    first = start(workdir, "--steps=9")
    try:
        assert wait_until(lambda: lock.exists() and lock.read_text(), first)
        assert finish(start(workdir, "--steps=9")) == 2
    finally:
        first.kill()
        first.wait()
    assert f"in use by process {first.pid} on" in printed_by(workdir).read_text()


def test_bad_input_of_one_process_ends_the_others_too(tmp_path):
    last = ["--dataset=folder:/nowhere"]
    processes = start_together(tmp_path / "run", "--steps=9", last=last)
    first, second = (finish(process, 120) for process in processes)
    said = [(tmp_path / f"run.txt.{index}").read_text() for index in range(2)]
    assert second == 2 and "/nowhere" in said[1] and "Traceback" not in said[1]
    assert first != 0 and ("error: " in said[0] or "Terminating" in said[0])
