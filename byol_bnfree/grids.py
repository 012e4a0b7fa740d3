"""`byol-experiments` runs the experiments, from a checkout or an installed package.

The package does not import them: they are programs that use it. A wheel contains them
in `shipped/`. Their results then go to --out, because nobody writes to installed
packages.
"""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def folder() -> Path:
    """Return the folder that contains experiments/."""
    places = (HERE / "shipped", HERE.parent)
    return next(p for p in places if (p / "experiments" / "__main__.py").is_file())


def command() -> None:
    """Run `byol-experiments` or `python -m byol_bnfree.grids`.

    In a checkout `python -m experiments` does the same.
    """
    sys.path.insert(0, str(folder()))
    runpy.run_module("experiments", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    command()
