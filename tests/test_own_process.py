"""Processes that a command starts end with it, even if it is killed."""

import subprocess
import sys

PROGRAM = """
import os, signal
from byol_bnfree.own_process import process_pool

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
