"""The pages: self-contained, complete, and shown by a browser without complaint."""

import itertools
import re
import shutil
import subprocess
import threading
from math import isfinite, nan

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv, to_rgb
from rows import comparison, rows_of
from rows import row as row_of

from byol_bnfree.files import append_row
from experiments import GRIDS
from experiments.comparison import NOT_RUN, compare
from experiments.grid import Arm, load_experiment, make_runs
from experiments.pages.blocks import to_markdown
from experiments.pages.lock import writing
from experiments.pages.style import (
    NORM_COLORS,
    End,
    colors,
    family_of,
    label_ends,
    labelled,
    labelled_axis,
    log_axis,
    styled,
)
from experiments.places import Places
from experiments.report import curves, state
from experiments.report import write as reports
from experiments.report.conditions import conditions
from experiments.report.content import blocks_of
from experiments.report.curves import layers as layer_figures
from experiments.report.index import index_of
from experiments.report.settings import settings_table
from experiments.report.state import write_state
from experiments.report.tables import (
    DEVIATION,
    accuracy_table,
    arms_note,
    collapse_table,
    cost_table,
)
from experiments.report.updates import updates_of_arm
from experiments.report.write import write_all, write_report
from experiments.results import read_results
from experiments.scales import SCALES

FIGURES = {
    "norm_comparison": {
        "bn": [0.4, 0.41],
        "gn_ws": [0.39, 0.42],
        "none": ["collapsed"],
    },
    "batch_size": {"bn-256": [0.4], "bn-8": [None], "gn_ws-256": [0.4]},
}
EXPERIMENT = load_experiment("norm_comparison")
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
    text = text.replace("&nbsp;", " ")
    for said in ("paired over 2 seeds", "fell at step 40", "1.50", "collapsed"):
        assert said in text, said


def test_the_index_answers_every_question_that_has_runs(folder):
    text = (folder / "index.html").read_text()
    assert text.count("report.html") == len(FIGURES)
    assert text.index("<h1>") < text.index("<h2>")
    assert (
        text.count(NOT_RUN) == len(GRIDS) - len(FIGURES)
        and "Two seeds cannot show whether gn_ws" in text
    )


def test_the_index_has_a_figure_and_a_date_for_each(folder):
    text = (folder / "index.html").read_text()
    assert text.count("<img ") == len(FIGURES)
    assert "5 runs, the last on 2026-01-02" in text


def test_a_figure_comes_before_outcome_and_seeds_on_a_narrow_screen(folder):
    text = (folder / "norm_comparison" / "report.html").read_text()
    head = re.findall(r"<th[^>]*>([^<]*)</th>", text.replace("&nbsp;", " "))
    assert head[:3] == ["arm", "linear, %", "kNN, %"]
    assert head[8:10] == ["seeds", "outcome"]


def test_report_says_what_it_has_drawn(tmp_path):
    said = []
    append_row(
        tmp_path / "batch_size" / "results.jsonl",
        rows_of(load_experiment("batch_size"), {"bn-256": [0.4]})[0],
    )
    write_all(tmp_path, said.append)
    assert len(said) == len(GRIDS) and sum("1 runs, " in line for line in said) == 1


def test_new_measurements_are_drawn_where_a_run_has_them(tmp_path):
    def pages(**fields):
        rows = rows_of(load_experiment("norm_comparison"), {"bn": [0.4]}, **fields)
        append_row(tmp_path / "norm_comparison" / "results.jsonl", rows[0])
        write_report(load_experiment("norm_comparison"), tmp_path)
        own = tmp_path / "norm_comparison"
        return (own / "report.html").read_text(), set((own / "figures").iterdir())

    before, few = pages()
    assert "Size of updates" not in before
    layer = {"rms": 1.0, "between_images": 0.5, "unit_between_images": 0.2}
    measured = {state: {"encoder/norm1": layer} for state in ("untrained", "trained")}
    ratio = [[1, 20], [1e-3, None]]
    names = [f"update_ratio/encoder/conv1/{kind}" for kind in ("kernel", "bias")]
    after, more = pages(layers=measured, curves=dict.fromkeys(names, ratio))
    drawn = {path.stem for path in more - few}
    assert drawn == {"layers_unit_between_images", "updates_kernel", "updates_bias"}
    assert "Size of updates" in after and "update over weight of each layer" in after
    assert "train_loss" not in {path.stem for path in more}, "a stale figure stays"


def test_a_layer_has_the_same_place_in_the_picture_for_every_arm(monkeypatch):
    """Older rows list shortcuts first, and arms differ in depth."""
    drawn, plot = [], Axes.plot

    def spy(axis, x, y, *style, **more):
        if style[:1] in ((":",), ("-",)):  # not the lines from ends to names
            drawn.append((list(x), list(y)))
        return plot(axis, x, y, *style, **more)

    monkeypatch.setattr(Axes, "plot", spy)
    orders = {"bn": ["b", "a", "c"], "gn_ws": ["a", "b", "b2", "c"], "gn": ["a"]}
    height = {"a": 1.0, "b": 2.0, "b2": 3.0, "c": 4.0}
    rows = []
    for arm, order in orders.items():
        numbers = {name: {"rms": height[name], "kernel": 1.0} for name in order}
        layers = {"untrained": numbers, "trained": numbers}
        rows += rows_of(EXPERIMENT, {arm: [0.4]}, layers=layers)
    (figure,) = layer_figures(compare(EXPERIMENT, SCALES["cpu"], rows))
    assert figure.name == "layers_rms"
    places = {(x, y) for xs, ys in drawn for x, y in zip(xs, ys, strict=True)}
    # The first row gives the order, and a new layer follows the one before it.
    assert places == {(x, height[name]) for x, name in enumerate(["b", "b2", "a", "c"])}
    assert all(xs == sorted(xs) for xs, _ in drawn)


def test_a_predictor_that_the_loss_does_not_use_is_in_no_picture():
    def words(name: str, arm: str) -> str:
        layer = {"rms": 1.0, "kernel": 1.0, "gradient": 0.1}
        parts = ("encoder", "projector", "predictor")
        layers = {f"{part}/fc1": layer for part in parts}
        kernels = [f"update_ratio/{part}/fc1/kernel" for part in parts]
        found = comparison(
            name,
            {arm: [0.4]},
            layers={"untrained": layers, "trained": layers},
            curves={kernel: [[1, 20], [1e-3, 1e-2]] for kernel in kernels},
        )
        drawn = [*layer_figures(found), updates_of_arm(found, arm)]
        return "".join(figure.svg.decode() for figure in drawn)

    simclr = words("simclr_norms", "bn-bn")
    assert "projector/fc1" in simclr and "predictor" not in simclr
    assert "predictor/fc1" in words("norm_comparison", "bn")


def test_a_value_of_0_leaves_a_gap_and_no_name_on_a_logarithmic_axis():
    gradients = {"a": 0.1, "b": 0.0, "c": 0.2, "d": 0.0}
    numbers = {k: {"kernel": 1.0, "gradient": v} for k, v in gradients.items()}
    none = {k: {"kernel": 1.0, "gradient": 0.0} for k in gradients}
    rows = []
    for arm, found in {"bn": numbers, "gn_ws": none}.items():
        rows += rows_of(EXPERIMENT, {arm: [0.4]}, layers={"trained": found})
    (figure,) = layer_figures(compare(EXPERIMENT, SCALES["cpu"], rows))
    assert ">bn<" in figure.svg.decode() and ">gn_ws<" not in figure.svg.decode()
    with styled():
        axis = labelled_axis(["a name"], 2.9)
        (line,) = axis.plot([0, 1, 2], [0.1, 0.0, 0.2])
        log_axis(axis)
        label_ends(axis, [End("zero", 2, 0.0, "red", "f"), End("nan", 2, nan, "b", "")])
        assert not axis.texts
        drawn = axis.transData.transform_path(line.get_path()).vertices
    assert not isfinite(drawn[1][1])


def test_a_curve_that_ends_at_0_is_named_at_its_last_height(monkeypatch):
    ends = []
    monkeypatch.setattr(curves, "label_ends", lambda axis, found: ends.extend(found))
    lost = {"train/loss": [[1, 10, 20], [2.0, 0.5, 0.0]]}
    curves.curves(comparison("norm_comparison", {"bn": [0.4]}, curves=lost))
    assert [(end.x, end.y) for end in ends] == [(10, 0.5)]


def test_arms_of_a_family_share_a_hue_and_others_do_not():
    found = comparison(
        "norm_comparison",
        {"bn": [0.4], "gn_ws": [0.4], "gn_ws_with_ws_heads": [0.4], "gn": [0.3]},
    )
    hue = {name: rgb_to_hsv(color)[0] for name, color in colors(found).items()}
    assert hue["gn_ws"] == pytest.approx(hue["gn_ws_with_ws_heads"], abs=0.02)
    assert len({round(hue[name], 2) for name in ("bn", "gn_ws", "gn")}) == 3
    assert family_of(Arm("none_data_init", ())) == "none"
    assert family_of(Arm("gn_ws-tau1", ())) == "gn_ws"


def test_names_at_the_ends_of_lines_do_not_overlap():
    with styled():
        axis = labelled_axis(["a name"], 2.9)
        ends = [End(f"arm {i}", 9, 1 + i / 1e3, "red", "f") for i in range(12)]
        axis.plot([0, 9], [0, 5])
        label_ends(axis, ends)
        boxes = sorted(text.get_window_extent().y0 for text in axis.texts)
        height = axis.texts[0].get_window_extent().height
    assert len(boxes) == 12
    assert min(b - a for a, b in zip(boxes, boxes[1:], strict=False)) > 0.8 * height


def test_norms_differ_in_colour_also_for_people_who_see_no_green():
    """Distances in CIELAB under deuteranopia (Machado and others, 2009)."""
    seen = np.array(
        [
            [0.367, 0.861, -0.228],
            [0.280, 0.673, 0.047],
            [-0.012, 0.043, 0.969],
        ]
    )
    xyz = np.array(
        [
            [0.434, 0.376, 0.190],  # of the white of sRGB
            [0.213, 0.715, 0.072],
            [0.018, 0.109, 0.873],
        ]
    )
    lab = {}
    for norm, color in NORM_COLORS.items():
        x, y, z = np.cbrt(xyz @ np.clip(seen @ linear(color), 0.001, 1))
        lab[norm] = np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
    for a, b in itertools.combinations(lab, 2):
        assert np.linalg.norm(lab[a] - lab[b]) > 15, (a, b)


def linear(color) -> np.ndarray:
    """Return the light of a colour of sRGB."""
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def test_names_can_be_read_and_stand_beside_the_colour_of_their_line():
    light = "#ecaf81"  # the lightest shade of gn_ws
    with styled():
        axis = labelled_axis(["a name"], 2.9)
        axis.plot([0, 9], [0, 5], color=light)
        label_ends(axis, [End("a name", 9, 5, light, "f")])
        (text,), dash = axis.texts, axis.lines[-1]
        gap = text.get_window_extent().x0 - dash.get_window_extent().x1
    luminance = linear(text.get_color()) @ [0.213, 0.715, 0.072]
    assert 1.05 / (luminance + 0.05) > 7  # WCAG's contrast with white, level AAA
    assert dash.get_color() == light and 0 < gap < 5


def test_of_many_arms_the_ends_of_each_family_are_named():
    ends = [End(str(i), 0, i, "red", "even" if i % 2 else "odd") for i in range(30)]
    assert {end.name for end in labelled(ends)} == {"0", "1", "28", "29"}


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
        and DEVIATION in text
    )


MARKED = "<!-- results -->\nold\n<!-- /results -->\n"


@pytest.mark.parametrize("collapsed", [None, "error: it collapsed at step 3"])
def test_a_readme_names_the_arms_that_a_command_copies(tmp_path, collapsed):
    """bn-l2 is the arm bn-tau0.99 of another experiment."""
    other = rows_of(load_experiment("target_network"), {"bn-tau0.99": [0.4]})[0]
    append_row(
        tmp_path / "target_network" / "results.jsonl", other | {"collapsed": collapsed}
    )
    experiment = load_experiment("loss_normalization")
    readme = tmp_path / experiment.name / "README.md"
    readme.parent.mkdir()
    readme.write_text(MARKED)
    have = "1 of the 8 arms has equal rows in other experiments: bn-l2. The command"

    def filled() -> str:
        write_report(experiment, tmp_path)
        return readme.read_text()

    said = filled()
    only = " (bn-l2 only with `--stop-collapsed`)" if collapsed else ""
    assert f"Not run yet at cpu scale. {have} copies them{only}." in said
    results = readme.parent / "results.jsonl"
    append_row(results, rows_of(experiment, {"bn-none": [0.4]})[0])
    said = filled()
    assert have in said and "Not run" not in said and "| bn-none | 40.0 |" in said
    append_row(results, rows_of(experiment, {"bn-l2": [0.4]})[0])
    assert "equal rows" not in filled()


def test_rows_of_no_arm_of_today_are_counted_and_leave_no_report(tmp_path):
    own, said = tmp_path / EXPERIMENT.name, []
    bn, gn_ws = rows_of(EXPERIMENT, {"bn": [0.4], "gn_ws": [0.5]})
    (own / "figures").mkdir(parents=True)
    (own / "README.md").write_text(MARKED)

    def report(*rows) -> str:
        (own / "results.jsonl").unlink(missing_ok=True)
        for row in rows:
            append_row(own / "results.jsonl", row)
        write_all(tmp_path, said.append)
        (line,) = (x for x in said[-len(GRIDS) :] if EXPERIMENT.name in x)
        return line

    old = {"settings": "of old"}
    one = "1 row has settings that no arm has today"
    assert report(bn, gn_ws | old).endswith(f" s; {one}")
    for name in ("README.md", "report.md", "report.html"):
        assert f"{one}, so no table here has them." in (own / name).read_text()
    two = "2 rows have settings that no arm has today"
    assert report(bn | old, gn_ws | {"scale": "no more"}).endswith(f"no results; {two}")
    text = (own / "README.md").read_text()
    assert f"Not run yet at cpu scale. {two}, so no" in text and "| bn |" not in text
    assert not list(own.glob("report.*")) and not list((own / "figures").iterdir())
    assert report(bn, gn_ws).endswith(" s")
    assert "no arm has today" not in (own / "report.md").read_text()


def test_a_readme_forgets_results_of_which_only_a_smoke_test_is_left(tmp_path):
    (run,) = (
        run for run in make_runs(EXPERIMENT, SCALES["smoke"], (0,)) if run.arm == "bn"
    )
    readme = tmp_path / EXPERIMENT.name / "README.md"
    readme.parent.mkdir()
    readme.write_text(MARKED)
    text = _filled(tmp_path, [row_of(run, 0.4)])
    assert "Not run yet at cpu scale." in text and "old" not in text


@pytest.mark.parametrize("page", [f"{EXPERIMENT.name}/report.md", "state.html"])
def test_a_page_has_the_rows_that_another_command_adds_while_it_waits(
    page, tmp_path, monkeypatch
):
    results, read = tmp_path / EXPERIMENT.name / "results.jsonl", []
    bn, gn_ws = rows_of(EXPERIMENT, {"bn": [0.4], "gn_ws": [0.5]})
    append_row(results, bn)
    module, write, arguments = reports, write_report, (EXPERIMENT, tmp_path)
    if page == "state.html":
        places = Places(tmp_path, tmp_path, None)
        module, write, arguments = state, write_state, (SCALES["cpu"], (0,), places)

    def spy(path):
        read.append(path)
        return read_results(path)

    monkeypatch.setattr(module, "read_results", spy)
    command, file = threading.Thread(target=write, args=arguments), tmp_path / page
    with writing(file.parent):
        command.start()
        command.join(0.5)
        assert command.is_alive() and not read
        append_row(results, gn_ws)
    command.join()
    assert "50.0" in file.read_text()


def test_a_report_says_which_arms_have_no_run():
    few = comparison("loss_normalization", {"bn-l2": [0.4], "gn_ws-l2": [0.4]})
    missing = [arm.name for arm in few.arms if arm.name not in few.results]
    assert arms_note(few) == (
        f"2 of the 8 arms were run. Without a run: {', '.join(missing)}."
    )
    many = comparison("rates", {"bn-rate1-decay1": [0.4]})
    said = "1 of the 84 arms was run. Without a run: 41 of bn, 42 of gn_ws."
    assert arms_note(many) == said
    assert said in "".join(map(to_markdown, blocks_of(many)))
    all_arms = {arm.name: [0.4] for arm in few.arms}
    assert arms_note(comparison("loss_normalization", all_arms)) == ""


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


def test_a_stopped_run_shows_its_last_knn_with_its_step(tmp_path):
    stop = {"collapsed": "error: the representation collapsed at step 400 (...)"}
    curves = {"epoch": [[1], [0.1]], "knn/top1": [[195, 390, 400], [0.3, 0.2534, None]]}
    rows = rows_of(EXPERIMENT, {"bn": [0.4, 0.4]})
    readme = tmp_path / EXPERIMENT.name / "README.md"
    readme.parent.mkdir()
    readme.write_text(MARKED)
    assert "with a step" not in _filled(tmp_path, rows)
    rows += rows_of(EXPERIMENT, {"bn": [None] * 3}, **stop, curves=curves)[2:]
    rows += rows_of(EXPERIMENT, {"gn_ws": [None]}, **stop, curves=curves)
    rows += rows_of(EXPERIMENT, {"gn": [None]}, curves=curves)  # it diverged
    text = _filled(tmp_path, rows)
    assert (
        "| bn | 40.0 ± 0.0 (2 of 3) | 40.0 ± 0.0 (2 of 3), 25.3 at step 390 |" in text
    )
    assert "| gn_ws |  | 25.3 at step 390 |" in text and "| gn |  |  |" in text
    assert "A kNN with a step is the last" in text


def _filled(folder, rows) -> str:
    """Write the report of these rows alone; return the README."""
    own = folder / EXPERIMENT.name
    (own / "results.jsonl").unlink(missing_ok=True)
    for row in rows:
        append_row(own / "results.jsonl", row)
    write_report(EXPERIMENT, folder)
    return (own / "README.md").read_text()


def test_a_collapsed_run_shows_the_measures_of_its_end():
    curves = {"collapse/feature_std": [[1, 10, 20], [0.3, 0.2, 0.004]]}
    compared = comparison("norm_comparison", {"bn": ["collapsed"]}, curves=curves)
    assert [row[-1] for row in collapse_table(compared).rows] == ["feature std 0.004"]


def test_a_page_names_the_settings_in_which_its_arms_differ(folder):
    text = (folder / "norm_comparison" / "report.md").read_text()
    section = text.split("Settings of the arms\n")[1].split("\n#")[0]
    assert "| arm | norm |" in section and "| gn_ws | gn_ws |" in section


def table_of(name, *arms):
    found = settings_table(comparison(name, {arm: [0.4] for arm in arms}))
    return found and (tuple(found.head), *map(tuple, found.rows))


def test_settings_of_arms_are_those_of_their_runs():
    head, *rows = table_of("norm_comparison", "bn", "gn_ws", "bn_decay", "bn_lars")
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    assert columns["norm"] == ("bn", "gn_ws", "bn", "bn")
    assert columns["optim.name"] == ("muon", "muon", "muon", "lars")
    assert columns["optim.weight_decay"][:3] == ("1e-05", "1e-05", "0.1")
    assert "seed" not in columns and "batch_size" not in columns


def test_norms_of_parts_have_columns_only_where_they_differ():
    assert table_of("norm_placement", "bn-bn-bn", "bn-none-bn") == (
        ("arm", "projector_norm"),
        ("bn-bn-bn", "bn"),
        ("bn-none-bn", "none"),
    )


def test_settings_of_another_objective_are_left_empty():
    head, byol, simclr = table_of("objectives", "bn-byol", "bn-infonce")
    assert [row[head.index("byol.predictor")] for row in (byol, simclr)] == [
        "network",
        "",
    ]
    assert "moco_v2.queue" not in head


def test_one_arm_has_no_table_of_settings():
    assert table_of("norm_comparison", "bn") is None


def test_costs_are_medians_and_leave_out_the_time_of_resumed_runs():
    """Such a run knows the time of its last part only."""
    compared = comparison("norm_comparison", {"bn": [0.4, 0.4, 0.4]})
    costs = ((0.1, 60, False), (0.2, 600, False), (0.9, 120, True))
    for row, cost in zip(compared.rows, costs, strict=True):
        row |= zip(("step_seconds", "wall_seconds", "resumed"), cost, strict=True)
        row["config"]["batch_size"] = 64
        row["summary"]["peak_gib"] = {"host": 1.0, "device": 3.0}
    assert cost_table(compared).rows == [("bn", "200", "320", "3.00", "5.5", "")]


def test_a_difference_is_that_of_an_arm_to_the_reference():
    figures = {"bn": [0.4, 0.42], "gn_ws": [0.3, 0.32]}
    bn, gn_ws = accuracy_table(comparison("norm_comparison", figures)).rows
    assert bn[1:5] == ("41.0 ± 1.4", "41.0 ± 1.4", "", "")
    assert gn_ws[3:5] == ("-10.0 [-10.0, -10.0] (n 2)", "behind")
    assert gn_ws[5:7] == ("27.0 ± 0.0", "25.0 ± 0.0")  # untrained


def test_times_name_their_machines_only_where_these_differ():
    one = {"commit": "c" * 40, "cpu": "a cpu", "cores": 2}
    same = comparison("norm_comparison", {"bn": [0.4], "gn_ws": [0.4]})
    assert "machines" not in cost_table(same).head
    for row, cores in zip(same.rows, (1, 2), strict=True):
        row["environment"] = one | {"cores": cores}
    table = cost_table(same)
    assert [line[-1].split(" of ")[0] for line in table.rows] == ["1 core", "2 cores"]


def test_commits_and_machines_of_all_parts_of_a_resumed_run_are_named():
    (row,) = comparison("norm_comparison", {"bn": [0.4]}).rows
    row["earlier"] = [{"commit": "e" * 40 + "-dirty", "cpu": "other", "cores": 8}]
    said = conditions([row])
    assert "8 cores of other" in said and "Commits: ccccccc, eeeeeee+." in said


def test_the_index_draws_the_newest_scale_and_names_it(tmp_path):
    experiment = load_experiment("norm_comparison")
    (new,) = rows_of(experiment, {"bn": [0.5]})
    small = SCALES["cpu30"]
    run = make_runs(experiment, small, [0])[0]
    older = row_of(run, 0.6, time="2021-01-01T00:00:00+00:00")
    compared = [compare(experiment, SCALES["cpu"], [new])]
    compared.append(compare(experiment, small, [older]))
    assert "The figure is of cpu scale." in index_of([(experiment, compared)])
