"""Signals are answered when they come, by name, and handlers are given back."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

import runs
from byol_bnfree.machine.signals import signals_end_at_once
from byol_bnfree.training.interrupts import ASKING, WARNING, interrupts

ALL = (*ASKING, *WARNING)


@contextlib.contextmanager
def handlers(handler, numbers=WARNING):
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


@pytest.mark.parametrize("number", [n for n in ALL if n != signal.SIGHUP])
def test_a_signal_asks_once_and_is_named(number):
    """SIGHUP closes the terminals of the process: see the run in test_train."""
    said = []
    with handlers(signal.SIG_DFL):
        before = [signal.getsignal(n) for n in ALL]
        with interrupts(said.append) as asked:
            assert asked(1) is None
            os.kill(os.getpid(), number)
            until(lambda: said)
            assert asked(2) == number and len(said) == 1
        assert [signal.getsignal(n) for n in ALL] == before
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    assert said[0].startswith(f"{name}: the run saves after this step, and stops.")


def test_a_warning_that_is_ignored_stays_ignored():
    said = []
    with handlers(signal.SIG_IGN), interrupts(said.append) as asked:
        for number in WARNING:
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: said)
        assert asked(1) == signal.SIGTERM and len(said) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_ignored(number):
    """A script that starts runs in the background has them ignore Ctrl-C."""
    said = []
    with handlers(signal.SIG_IGN, [number]):
        with interrupts(said.append), signals_end_at_once("it"):
            os.kill(os.getpid(), number)
            time.sleep(0.1)
        assert signal.getsignal(number) == signal.SIG_IGN
    assert not said


def test_a_forked_child_has_the_signals_of_before():
    """It shares the pipe: its Ctrl-C would count as a second one of the parent."""
    code = """
import os, signal, time
from byol_bnfree.machine.signals import listening
heard = []
with listening([signal.SIGINT, signal.SIGTERM], heard.append):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert os.waitpid(child, 0)[1] == signal.SIGTERM
    time.sleep(0.2)
assert not heard, heard
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("closed", [False, True])
def test_the_status_stays_if_nobody_reads_the_message(closed):
    code = """
import os, sys
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.errors import RunStopped
def main():
    raise RunStopped("stopped", status=130, at_once=True)
exit_on_error(main)
"""
    reader, writer = os.pipe()
    if closed:
        os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stderr=writer, timeout=60)
    os.close(writer)
    assert done.returncode == 130
    if not closed:
        os.close(reader)


def test_ctrl_c_in_a_run_without_a_workdir_asks_for_its_folder():
    """The same command would begin another run."""
    code = (
        "import os, signal, time\n"
        "from byol_bnfree.errors import same_command\n"
        "from byol_bnfree.machine.signals import signals_end_at_once\n"
        "with signals_end_at_once(same_command(None)):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 130
    assert "; the same command with the run's --workdir resumes." in ended.stderr


@pytest.mark.parametrize("how", ["SIG_IGN", "SIG_DFL"])
def test_sigterm_during_training_asks_and_does_not_end_at_once(how):
    """Also where Ctrl-C is ignored, as in a job that a script starts with `&`."""
    code = (
        "import os, signal, time\n"
        "from byol_bnfree.machine.signals import signals_end_at_once\n"
        "from byol_bnfree.training.interrupts import interrupts\n"
        f"signal.signal(signal.SIGINT, signal.{how})\n"
        "with signals_end_at_once('it'), interrupts(print) as asked:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    while not asked(1): time.sleep(0.01)\n"
        "    time.sleep(0.5)\n"
        "    print('saved')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("saved\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_first_step_compiles_ends_at_once(tmp_path, number):
    arguments = [*runs.ARGUMENTS, f"--workdir={tmp_path}/run"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "byol_bnfree.train", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any(line.startswith("compiling the first step") for line in process.stdout)
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"stopped by {name}; the same command resumes." in errors
    assert "Traceback" not in errors and time.monotonic() - began < 5
