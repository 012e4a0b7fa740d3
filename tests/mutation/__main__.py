"""Which wrong programs pass the tests? `PYTHONPATH=tests python -m mutation [WORD]`

First, all tests that it needs must pass. Then it applies each mutation (all, or those
with a word in their name) to a copy of the package and runs the tests that should see
it. Lists survivors; status 1 if there are any. Nearly all of the time is compilation,
which a second run finds in a cache.
"""

import os
import shlex
import shutil
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
    everything = [*MUTATIONS, *FAULTS]
    chosen = [m for m in everything if not words or any(w in m.name for w in words)]
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder)
        for name in ("byol_bnfree", "tests", "configs", "pyproject.toml"):
            source = ROOT / name
            copied = shutil.copytree if source.is_dir() else shutil.copy
            copied(source, copy / name)
        for tests in sorted({mutation.tests for mutation in chosen}):
            if run_tests(copy, tests):
                raise SystemExit(f"without any mutation this fails: pytest {tests}")
        survivors = [m.name for m in chosen if not is_seen(m, copy)]
    print(f"{len(chosen)} mutations, {len(survivors)} survive")
    for name in survivors:
        print(f"survives: {name}")
    return len(survivors)


def is_seen(mutation: Mutation, copy: Path) -> bool:
    """Whether a test fails; the file is restored."""
    file, began = copy / "byol_bnfree" / mutation.file, time.monotonic()
    text = file.read_text()
    file.write_text(mutated(mutation, text))
    try:
        status = run_tests(copy, mutation.tests)
    finally:
        file.write_text(text)
    # 1: a test failed. 2: none could be collected, so the mutation breaks the import.
    seen = status in (1, 2)
    word = {0: "SURVIVES", 1: "seen", 2: "seen at import", 5: "NO TEST"}
    seconds = time.monotonic() - began
    print(f"{word.get(status, status)}: {mutation.name} ({seconds:.0f} s)", flush=True)
    return seen


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
