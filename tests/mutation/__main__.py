"""Which wrong programs pass the tests? `PYTHONPATH=tests python -m mutation [WORD]`

First, all tests that it needs must pass. Then it applies each mutation (all, or those
with a word in their name) to a copy of the package and runs the tests that should see
it. Lists survivors; status 1 if there are any. Nearly all of the time is compilation,
which a second run finds in a cache.
"""

import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

CACHE = os.path.join(tempfile.gettempdir(), "mutation-jax-cache")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", CACHE)

# The tests' settings of JAX: they must stand in the environment when it is imported.
import conftest  # noqa: E402, F401

# isort: split
import flax.linen  # noqa: E402, F401
import optax  # noqa: E402, F401
import orbax.checkpoint  # noqa: E402, F401
import pytest  # noqa: E402

from mutation.faults import FAULTS  # noqa: E402
from mutation.mutations import MUTATIONS, Mutation  # noqa: E402

ROOT = Path(__file__).parents[2]


def main(words: list[str]) -> int:
    """Number of survivors."""
    if "byol_bnfree" in sys.modules:
        raise SystemExit("byol_bnfree is imported already, so no mutation can be seen")
    everything = [*MUTATIONS, *FAULTS]
    chosen = [m for m in everything if not words or any(w in m.name for w in words)]
    for mutation in chosen:  # an outdated one is found before anything runs
        mutated(mutation, (ROOT / mutation.path).read_text())
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder)
        copy_project(copy)
        suites = sorted({mutation.tests for mutation in chosen})
        for number, tests in enumerate(suites, 1):
            if run_tests(copy, tests):
                raise SystemExit(f"without any mutation this fails: pytest {tests}")
            print(f"without mutations: {number} of {len(suites)} pass", flush=True)
        survivors = [m.name for m in chosen if not is_seen(m, copy)]
    print(f"{len(chosen)} mutations, {len(survivors)} survive")
    for name in survivors:
        print(f"survives: {name}")
    return len(survivors)


def copy_project(copy: Path) -> None:
    """Copy what the tests need, without the large results of experiments."""
    for name in ("byol_bnfree", "tests", "configs", "experiments"):
        skip = shutil.ignore_patterns("*.jsonl", "*.html", "figures", "__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", copy)


def is_seen(mutation: Mutation, copy: Path) -> bool:
    """Whether a test fails; the file is restored."""
    file, began = copy / mutation.path, time.monotonic()
    text = file.read_text()
    file.write_text(mutated(mutation, text))
    try:
        status = run_tests(copy, mutation.tests)
    finally:
        file.write_text(text)
    seen, word = judged(status)
    seconds = time.monotonic() - began
    print(f"{word}: {mutation.name} ({seconds:.0f} s)", flush=True)
    return seen


def judged(status: int) -> tuple[bool, str]:
    """Whether pytest's status shows that a test saw the mutation, and a word for it.

    A negative status is the signal that ended pytest. A mutation may let one through
    that the program should have caught, or break memory. SIGKILL, SIGTERM and SIGINT
    come from outside, as from a system without memory, and show nothing.
    """
    if status < 0:
        ended_by = signal.Signals(-status)
        from_outside = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
        return ended_by not in from_outside, f"ended by {ended_by.name}"
    # 1: a test failed. 2: none could be collected, so the mutation breaks the import.
    words = {0: "SURVIVES", 1: "seen", 2: "seen at import", 5: "NO TEST"}
    return status in (1, 2), words.get(status, str(status))


def mutated(mutation: Mutation, text: str) -> str:
    """The text of the wrong program."""
    count = text.count(mutation.before)
    if count != 1:
        raise SystemExit(
            f"{mutation.name}: its line stands {count} times in {mutation.file}; "
            f"bring tests/mutation/mutations.py up to date."
        )
    return text.replace(mutation.before, mutation.after)


def run_tests(copy: Path, tests: str) -> int:
    """pytest's status: 0 passed, 1 failed, 2 interrupted, 5 nothing collected.

    In a fork of this process, which has imported what takes long already.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 3
    try:
        os.chdir(copy)
        sys.path[:0] = [str(copy), str(copy / "tests")]
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        options = ["-n0", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        status = int(pytest.main([*options, "-m", "not slow", *shlex.split(tests)]))
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
