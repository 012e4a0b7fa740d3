"""Processes that a command starts end with it, even if it is killed."""

import subprocess
import sys

PROGRAM = """
import os, signal
from byol_bnfree.machine.own_process import process_pool

if __name__ == "__main__":
    pool = process_pool(1)
    pool.submit(os.getpid).result()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_of_a_killed_process_end(tmp_path):
    """A worker that lives on would keep the output open, and time out."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program], capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr


GROUP = """
import os, signal, time
from byol_bnfree.machine.own_process import IGNORED, process_pool

if __name__ == "__main__":
    asked = []
    for number in (signal.SIGTERM, *IGNORED):
        signal.signal(number, lambda number, _: asked.append(number))
    pool = process_pool(1)
    worker = pool.submit(os.getpid).result()
    for number in (signal.SIGTERM, *IGNORED):
        os.killpg(0, number)
    time.sleep(0.5)
    assert pool.submit(os.getpid).result() == worker and len(asked) == 5
    pool.shutdown()
"""


def test_workers_work_on_while_a_run_saves(tmp_path):
    """Schedulers and terminals send their signals to the whole group."""
    program = tmp_path / "program.py"
    program.write_text(GROUP)
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        timeout=60,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
