"""Figures are stored with what they are of, and never measured twice."""

import dataclasses
import json

import numpy as np
import pytest

import tiny
from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.data.sources import MemorySource
from byol_bnfree.encoder import load_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation import bench as benches
from byol_bnfree.evaluation import run as evaluation
from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.cleaned import Cleaned
from byol_bnfree.evaluation.images.splits import check_images, check_labels
from byol_bnfree.evaluation.images.subset import Subset, limited
from byol_bnfree.evaluation.kept.store import Store
from byol_bnfree.evaluation.shown.tables import figures_table, print_tables
from byol_bnfree.models.kernels import XLA
from byol_bnfree.training.mesh import make_mesh
from runs import copy_of, run, trained


@pytest.fixture
def workdir(tmp_path):
    return copy_of(trained(), tmp_path)


def labelled(targets, split="test", shape=(16, 16, 3)) -> MemorySource:
    """A split of which only the labels matter."""
    pixels = np.zeros((len(targets), *shape), np.uint8)
    labels = np.array(targets, np.int32)
    return MemorySource("letters", split, ("a", "b", "c"), pixels, labels, {})


def test_a_row_says_what_was_measured_and_how(workdir):
    (row,) = run(workdir, "knn")
    identity = row["identity"]
    assert (identity["protocol"], identity["dataset"]) == ("knn", "shapes")
    assert (identity["network"], identity["step"]) == ("online", 4)
    assert identity["test"] | {"fingerprint": ""} == (
        {"split": "test", "images": 48, "fingerprint": ""}
    )
    assert identity["settings"] == {"k": 20, "temperature": 0.1}
    assert 0 <= row["figures"]["top1"] <= 1 and row["seconds"] > 0
    lines = (workdir / "evaluations.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]) == row


def test_a_finished_protocol_is_not_measured_twice_unless_again(workdir, monkeypatch):
    first = run(workdir, "knn")
    with monkeypatch.context() as patch:
        patch.setattr(benches, "encoder_features", None)
        assert run(workdir, "knn") == first
    assert run(workdir, "knn", again=True) != first  # its seconds differ
    assert len((workdir / "evaluations.jsonl").read_text().splitlines()) == 2


def test_features_are_extracted_once_for_all_protocols(workdir, monkeypatch):
    run(workdir, "knn")
    monkeypatch.setattr(benches, "encoder_features", None)
    run(workdir, "knn", "linear_cached", again=True)


@pytest.mark.parametrize("norm", [pytest.param("bn", marks=pytest.mark.slow), "gn_ws"])
def test_target_and_untrained_networks_are_measured_as_others(norm, tmp_path):
    workdir = copy_of(trained(norm), tmp_path)
    rows = run(workdir, "knn", "random", network="target") + run(workdir, "knn")
    subjects = [row["identity"] for row in rows]
    assert [s["network"] for s in subjects] == ["target", "random", "online"]
    assert len({s["weights"] for s in subjects}) == 3
    assert [s["step"] for s in subjects] == [4, 0, 4]


def test_half_precision_features_give_nearly_the_same_figure(workdir):
    (whole,), (half,) = (
        run(workdir, "knn"),
        run(workdir, "knn", half_precision=True, again=True),
    )
    assert abs(whole["figures"]["top1"] - half["figures"]["top1"]) < 0.1


def measured(protocol, metric="top1", **settings) -> dict:
    """A row of one encoder on one data set."""
    subject = {"dataset": "d", "network": "n", "step": 1, "weights": "0" * 16}
    identity = {**subject, "protocol": protocol, "settings": settings}
    return {"identity": identity, "figures": {metric: 0.5}}


def test_kinds_of_figures_never_share_a_column():
    few = [measured("semi_supervised", share=share) for share in (0.1, 0.01)]
    table = figures_table([*few, measured("linear"), measured("knn")])
    titles = [str(column.header) for column in table.columns]
    linear = "linear, a tenth held out"
    assert titles[3:] == ["kNN", linear, "1 % labels", "10 % labels"]
    assert table.row_count == 1


def test_each_file_of_weights_has_a_line_of_its_own():
    rows = [measured("knn"), measured("linear_cached"), measured("knn")]
    rows[1]["identity"]["weights"] = "12345678"
    rows[2]["identity"]["network"] = "random"
    table = figures_table(rows)
    networks = [str(cell) for cell in table.columns[1].cells]
    assert networks == ["n 000000", "n 123456", "random"]
    assert str(table.caption) == "random: the untrained network"
    assert figures_table(rows[:2]).caption is None


def test_files_of_equal_weights_for_other_networks_have_lines_of_their_own():
    rows = [measured("knn"), measured("knn"), measured("linear_cached")]
    for row, settings in zip(rows, "aba", strict=True):
        row["identity"]["encoder"] = settings
    assert figures_table(rows).row_count == 2


def cells(rows: list[dict]) -> list[list[str]]:
    """The lines of a table, without network and step."""
    columns = [[str(c) for c in column.cells] for column in figures_table(rows).columns]
    return [[line[0], *line[3:]] for line in zip(*columns, strict=True)]


def of_data(row: dict, figure: float, **where) -> dict:
    split = {"split": "test", "images": 400, "fingerprint": "a"}
    data = {"location": "/AA/d", "train": split, "test": split | where.pop("test", {})}
    return row | {
        "identity": row["identity"] | data | where,
        "figures": {"top1": figure},
    }


@pytest.mark.parametrize(
    "other, names",
    [
        ({"location": "/BB/d"}, ["d /AA/d", "d /BB/d"]),
        ({"test": {"images": 1}}, ["d 400 + 400 images", "d 400 + 1 images"]),
        ({"test": {"fingerprint": "b"}}, None),
    ],
)
def test_a_figure_is_never_shown_for_other_data_of_the_same_name(other, names):
    asked = of_data(measured("knn"), 0.5)
    table = cells([of_data(measured("knn"), 1.0, **other), asked])
    assert [figure for _, figure in table] == ["100.0", "50.0"]
    shown = [name for name, _ in table]
    assert len({*shown}) == 2 and (names is None or {*shown} == {*names})


def test_settings_and_seeds_of_one_protocol_have_columns_of_their_own():
    few = [(20, 0, 0.5), (200, 0, 0.6), (20, 1, 0.7)]
    rows = [of_data(measured("knn", k=k), top1, seed=seed) for k, seed, top1 in few]
    rows.append(of_data(measured("linear_cached", strengths=45), 0.8, seed=0))
    titles = [str(column.header) for column in figures_table(rows).columns][3:]
    assert titles[:3] == [
        "kNN, k 20, seed 0",
        "kNN, k 20, seed 1",
        "kNN, k 200, seed 0",
    ]
    assert titles[3] == "linear, cached"
    assert cells(rows) == [["d", "50.0", "70.0", "60.0", "80.0"]]
    older = of_data(measured("knn", k=20), 0.1, seed=0, version="0.0")
    assert cells([older, rows[0]]) == [["d", "50.0"]]


def test_the_row_that_was_asked_for_wins_its_cell(workdir, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(benches, "__version__", "older")
        run(workdir, "knn")
    run(workdir, "knn")
    seen = []
    monkeypatch.setattr(evaluation, "print_tables", seen.append)
    monkeypatch.setattr(benches, "__version__", "older")
    (asked,) = run(workdir, "knn")
    assert seen[0][-1] == asked and len(seen[0]) == 2


def test_rows_of_other_versions_are_passed_over_with_a_note(capsys):
    rows = [measured("knn"), measured("newer"), measured("semi_supervised")]
    del rows[2]["identity"]["weights"]
    rows.append(measured("robustness"))  # without its corruption
    rows.append(measured("knn"))
    rows[-1]["identity"]["train"] = "all"
    print_tables(rows)
    said = capsys.readouterr().out
    assert "note: 4 stored results" in said and "50.0" in said


def test_names_in_a_table_are_no_markup(capsys):
    row = measured("knn")
    row["identity"]["dataset"] = "[bold]a[/x] :smile:"
    print_tables([row])
    assert "[bold]a[/x] :smile:" in capsys.readouterr().out


def test_corrupted_images_and_other_data_sets_have_tables_of_their_own(capsys):
    corrupted = measured("robustness", corruption="blur")
    other = measured("transfer", "map11", method="finetune")
    print_tables([measured("knn"), corrupted, other])
    tables = capsys.readouterr().out.split("┏")[1:]
    for table, title in zip(tables, ("kNN", "blur", "finetune"), strict=True):
        assert title in table and table.count("50.0") == 1
    assert "50.0 mAP" in tables[2]


def test_a_subset_is_its_images_in_its_order():
    subset = Subset(labelled([0, 1, 2, 1]), np.array([3, 0]))
    assert subset.labels().tolist() == [1, 0]
    assert subset.labels(np.array([1])).tolist() == [0]
    assert (len(subset), subset.name) == (2, "letters")
    assert limited(subset, 5, seed=0) is subset and len(limited(subset, 1, 0)) == 1


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="not the work folder of a run"):
        run(tmp_path, "knn")
    workdir = copy_of(trained(), tmp_path)
    (workdir / "checkpoints").rename(workdir / "elsewhere")
    with pytest.raises(InputError, match="holds no checkpoint"):
        run(workdir, "knn")


def test_images_without_labels_are_refused():
    with pytest.raises(InputError, match="without label"):
        check_labels(labelled([0, -1], "train"), labelled([0]))


def test_a_class_that_train_lacks_is_named():
    with pytest.raises(InputError, match="class 'c' in the test split"):
        check_labels(labelled([0, 1], "train"), labelled([0, 2]))


def test_a_class_that_a_limit_leaves_out_counts_as_wrong(capsys):
    check_labels(labelled([0, 1], "train"), labelled([0, 2]), limit=2)
    said = capsys.readouterr().out
    assert "1 of 2 classes" in said and "--max-train 2" in said
    check_labels(labelled([0, 1], "train"), labelled([0, 1]), limit=2)
    assert not capsys.readouterr().out
    with pytest.raises(InputError, match="--max-train 1 leaves images of one class"):
        check_labels(labelled([1], "train"), labelled([0, 1]), limit=1)


def test_images_of_another_shape_are_refused(workdir):
    source = labelled([0], shape=(28, 28, 1))
    with pytest.raises(InputError, match="are 28x28x1, .* made for 16x16x3"):
        check_images(load_encoder(workdir), source)


def test_random_alone_is_refused(workdir):
    with pytest.raises(InputError, match="protocol random"):
        run(workdir, "random")


def test_the_floor_of_a_protocol_depends_on_its_own_pictures_only(
    monkeypatch, tmp_path
):
    """Neither the pictures of another protocol nor a limit change it."""
    used = []

    def untrained(config, encoder, train, images, kernels):
        used.append(images)
        return encoder

    monkeypatch.setattr(evaluation, "_untrained", untrained)
    config = EvaluateConfig("w", ("knn", "depth", "random"))
    light = tiny.light()
    scenes = DenseView(Scenes("train", 40, 16), Windows((16, 16)))
    for train in (
        *(light, Subset(Subset(light, np.arange(9, 40)), np.arange(5))),
        *(scenes, dataclasses.replace(scenes, source=Cleaned(scenes.source, "boxes"))),
        scenes.subset(np.arange(3, 6)),
    ):
        place = train, train, make_mesh(), Store(tmp_path / "rows"), tmp_path, print
        bench = Bench(config, tiny.encoder("bn"), "online", *place)
        assert evaluation._floor(bench, XLA).network == "random"
    for found, whole, count in ((used[:2], light, 48), (used[2:], scenes, 32)):
        for images in found:
            np.testing.assert_array_equal(images, whole.images(np.arange(count)))
