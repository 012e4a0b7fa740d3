"""The pages: self-contained, complete, and shown by a browser without complaint."""

import re
import shutil
import subprocess

import pytest
from rows import comparison, rows_of

from experiments.grid import load_experiment
from experiments.report.tables import collapse_table
from experiments.report.write import write_all
from experiments.results import append_row

FIGURES = {
    "norm_comparison": {
        "bn": [0.4, 0.41],
        "gn_ws": [0.39, 0.42],
        "none": ["collapsed"],
    },
    "batch_size": {"bn-256": [0.4], "bn-8": [None], "gn_ws-256": [0.4]},
}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
# Pictures that were not drawn have no width; the title is read from the dumped page.
PROBE = """<script>addEventListener("load", () => {
  const all = [...document.images];
  document.title = all.filter(i => i.naturalWidth > 50).length + " of " + all.length;
})</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two experiments' reports, one with a README to fill, and the index."""
    folder = tmp_path_factory.mktemp("experiments")
    for name, figures in FIGURES.items():
        for row in rows_of(load_experiment(name), figures):
            append_row(folder / name / "results.jsonl", row)
    marked = "# Title\n<!-- results -->\nold\n<!-- /results -->\nmine\n"
    (folder / "norm_comparison" / "README.md").write_text(marked)
    assert write_all(folder) == folder / "index.html"
    return folder


def test_pages_fetch_nothing_and_show_text_as_text(folder):
    text = (folder / "norm_comparison" / "report.html").read_text()
    assert set(re.findall(r'(?:src|href)="([^"]{5})', text)) == {"data:", "../in"}
    assert "&lt;&amp;&gt;" in text and "<script" not in text
    for said in ("paired over 2 seeds", "fell at step 40", "1.50", "collapsed"):
        assert said in text, said


def test_the_index_answers_every_question_that_has_runs(folder):
    text = (folder / "index.html").read_text()
    assert text.count("report.html") == len(FIGURES)
    assert text.index("<h1>") < text.index("<h2>")
    assert text.count("Not run yet.") == 4 and "is not decided yet" in text


def test_every_picture_of_the_markdown_is_there(folder):
    own = folder / "batch_size"
    pictures = re.findall(r"\((figures/\S+\.svg)\)", (own / "report.md").read_text())
    assert "figures/along_axis.svg" in pictures
    assert all((own / picture).stat().st_size > 500 for picture in pictures)


def test_the_readme_holds_the_table_and_what_its_author_wrote(folder):
    text = (folder / "norm_comparison" / "README.md").read_text()
    assert text.startswith("# Title\n") and text.endswith("<!-- /results -->\nmine\n")
    assert (
        "old" not in text
        and "| gn_ws | 40.5 ± 2.1 |" in text
        and "| 2 | learned 2 |" in text
    )


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no headless browser")
def test_a_browser_shows_every_picture_and_complains_of_nothing(folder, tmp_path):
    page = (folder / "batch_size" / "report.html").read_text()
    probed = tmp_path / "page.html"
    probed.write_text(page.replace("</body>", f"{PROBE}</body>"))
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update "
        "--enable-logging=stderr --virtual-time-budget=10000 --dump-dom"
    ).split()
    done = subprocess.run(
        [BROWSER, *flags, f"--user-data-dir={tmp_path}/profile", str(probed)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "CONSOLE" not in done.stderr
    shown, total = re.search(r"<title>(\d+) of (\d+)</title>", done.stdout).groups()
    assert int(shown) == int(total) > 10


def test_a_collapsed_run_shows_the_measures_of_its_end():
    table = collapse_table(comparison("norm_comparison", {"bn": ["collapsed"]}))
    assert [row[-1] for row in table.rows] == ["feature std 0.3"]
