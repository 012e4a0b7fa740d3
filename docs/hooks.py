"""Adds the pages of `python -m experiments report` to the site.

They are not in git. Pages that are newer than their results are taken as they are;
otherwise all are drawn again in a temporary folder.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every page as a file of the site, so that links to it are checked."""
    folder = EXPERIMENTS if _are_new() else _draw()
    for page in [folder / "index.html", *sorted(folder.glob("*/report.html"))]:
        uri = f"experiments/{page.relative_to(folder)}"
        files.append(File.generated(config, uri, abs_src_path=str(page)))
    return files


def _are_new() -> bool:
    index = EXPERIMENTS / "index.html"
    results = [path.stat().st_mtime for path in EXPERIMENTS.glob("*/results.jsonl")]
    return index.exists() and index.stat().st_mtime > max(results)


def _draw() -> Path:
    sys.path.insert(0, str(ROOT))  # experiments are not installed
    from experiments.report.write import write_all

    folder = Path(tempfile.mkdtemp(prefix="byol_bnfree-reports-"))
    for results in EXPERIMENTS.glob("*/results.jsonl"):
        (folder / results.parent.name).mkdir()
        shutil.copy(results, folder / results.parent.name)
    write_all(folder)
    return folder
