"""`byol-experiments`: the grids of experiments/, from a checkout or as installed.

The package does not import them: they are programs that use it. A wheel carries them in
`shipped/`, and there figures go to --out, as nobody writes into an installed package.
"""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def folder() -> Path:
    """The folder that holds experiments/."""
    places = (HERE / "shipped", HERE.parent)
    return next(p for p in places if (p / "experiments" / "__main__.py").is_file())


def command() -> None:
    """`byol-experiments`; in a checkout the same as `python -m experiments`."""
    sys.path.insert(0, str(folder()))
    runpy.run_module("experiments", run_name="__main__", alter_sys=True)
