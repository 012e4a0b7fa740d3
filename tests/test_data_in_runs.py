"""What a run does with its data: it resumes on the same, says what is odd, may do
without a test split, and never counts bad pictures."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byol_bnfree.assembly import create_network
from byol_bnfree.command_line import config_of_run, parse_args
from byol_bnfree.config import DataConfig, TrainConfig
from byol_bnfree.data.preparing import prepare
from byol_bnfree.data.sources import (
    absolute,
    find_data,
    holds,
    open_source,
    same_set,
)
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.final import Evaluator
from byol_bnfree.evaluation.images.as_trained import print_changes, reads_own
from byol_bnfree.evaluation.images.splits import open_splits
from byol_bnfree.evaluation.pictures_of import asked_for, everything
from byol_bnfree.training.program import Program
from byol_bnfree.training.saved_run import read_run
from byol_bnfree.training.skipped import SkippedFile
from byol_bnfree.whole_run import run as whole_run
from runs import ARGUMENTS


def pictures(root: Path, names, size: int = 16) -> Path:
    """Pictures of noise, each of its own."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        noise = rng.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(noise).save(path)
    return root


def cut(path: Path) -> None:
    """As a download that was not finished; its header is whole."""
    path.write_bytes(path.read_bytes()[:-100])


def config(root: Path, workdir: Path, *arguments: str):
    given = [f"--dataset=folder:{root}", f"--workdir={workdir}", "--epochs=1"]
    return parse_args([*ARGUMENTS, *given, *arguments])


def only(config) -> Program:
    """The configuration of a program and nothing else."""
    known = {"config": config, "network": create_network(config, 2, 1)}
    return Program(**(dict.fromkeys(Program._fields, "") | known))


def evaluated(config):
    """The same with the evaluation at its end, which ARGUMENTS leaves out."""
    evaluation = dataclasses.replace(config.evaluation, skip=False, batch_size=8)
    return dataclasses.replace(config, evaluation=evaluation)


@pytest.fixture
def no_steps(monkeypatch):
    """Runs whose steps are left out; a list of what their data were."""
    seen = []
    nothing = {"trained": None, "untrained": None}
    summary = {"steps": 0, "knn": nothing, "linear": nothing, "images_per_s": None}
    monkeypatch.setattr(
        whole_run, "run_steps", lambda p, data, *_, **__: seen.append(data) or summary
    )
    monkeypatch.setattr(
        whole_run, "build_program", lambda config, *_, **__: only(config)
    )
    return seen


def save(workdir):
    """Make a run look as if it had saved step 1."""
    checkpoint = workdir / "checkpoints" / "1"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "manifest.json").write_text("{}")


@pytest.fixture
def begun(tmp_path, no_steps):
    """A run that has looked at its data and has something to resume."""
    names = [f"{c}/{k}.png" for c in "ab" for k in range(10)]
    root = pictures(tmp_path / "pictures", names)
    begun = config(root, tmp_path / "run")
    whole_run.train(begun)
    save(tmp_path / "run")
    return root, begun


def add(root):
    pictures(root, [f"a/new{k}.png" for k in range(10)])


def rename(root):
    (root / "a" / "1.png").rename(root / "a" / "other.png")


def replace(root):
    pictures(root, ["a/1.png"], size=16)
    Image.new("RGB", (16, 16)).save(root / "a" / "1.png")


def new_class(root):
    pictures(root, [f"c/{k}.png" for k in range(4)])


def lost_class(root):
    shutil.move(root / "a", root.parent)
    pictures(root, [f"c/{k}.png" for k in range(10)])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (add, "train images: 18 -> 27"),
        (rename, "as many, but other files"),
        (replace, "as many, but other files"),
        (new_class, r"classes: 1 new \(c\); train images: 18 -> 21"),
        (lost_class, r"classes: 1 gone \(a\), 1 new \(c\)"),
    ],
)
def test_a_run_is_not_resumed_on_other_data(begun, change, sentence):
    root, begun = begun
    before = (Path(begun.workdir) / "dataset.json").read_text()
    whole_run.train(begun)  # the same data
    change(root)
    with pytest.raises(InputError, match=f"{sentence}.*another --workdir"):
        whole_run.train(begun)
    assert (Path(begun.workdir) / "dataset.json").read_text() == before


def test_a_copy_of_the_pictures_is_the_same_data(begun):
    root, begun = begun
    copied = Path(
        shutil.copytree(root, root.parent / "copy", copy_function=shutil.copy)
    )
    shutil.rmtree(root)
    copied.rename(root)
    whole_run.train(begun)


@pytest.mark.parametrize("given", ["{0}/pictures/", "{0}/run/../pictures", "pictures"])
def test_a_folder_may_be_given_in_another_spelling(begun, given, monkeypatch):
    root, begun = begun
    monkeypatch.chdir(root.parent)
    dataset = f"folder:{given.format(root.parent)}"
    whole_run.train(dataclasses.replace(begun, dataset=dataset))


def test_a_folder_that_has_moved_with_its_name_is_the_same_data(begun):
    root, begun = begun
    (root.parent / "elsewhere").mkdir()
    moved = Path(shutil.move(root, root.parent / "elsewhere"))
    whole_run.train(dataclasses.replace(begun, dataset=f"folder:{moved}"))
    assert read_run(Path(begun.workdir))[0].dataset == f"folder:{moved}"


def test_one_text_in_another_working_folder_is_another_folder(begun, monkeypatch):
    root, begun = begun
    relative = dataclasses.replace(begun, dataset="folder:pictures")
    monkeypatch.chdir(root.parent)
    whole_run.train(relative)
    names = [f"a/{k}.png" for k in range(40)]
    pictures(root.parent / "other" / "pictures", names)
    monkeypatch.chdir(root.parent / "other")
    with pytest.raises(InputError, match="on other data"):
        whole_run.train(relative)


def as_saved_before(workdir: Path, dataset: str) -> None:
    """Earlier versions saved --dataset as it was given."""
    saved = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(saved | {"dataset": dataset}))


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("given", ["folder:.", "folder:../pictures"])
def test_a_run_finds_its_pictures_from_every_working_folder(
    begun, given, earlier, monkeypatch
):
    root, begun = begun
    monkeypatch.chdir(root)
    whole_run.train(dataclasses.replace(begun, dataset=given))
    if earlier:
        as_saved_before(Path(begun.workdir), given)
    monkeypatch.chdir(root.parent)
    there = f"folder:{root}"
    assert read_run(Path(begun.workdir))[0].dataset == there
    assert config_of_run(begun.workdir).dataset == there
    whole_run.train(begun)  # which has the whole path


def test_a_root_of_prepared_sets_is_saved_with_its_whole_path(
    tmp_path, no_steps, monkeypatch
):
    names = [f"{c}/{k}.png" for c in "ab" for k in range(10)]
    prepare(f"folder:{pictures(tmp_path / 'seen', names)}", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    given = ["--dataset=seen", "--data-dir=sets", f"--workdir={tmp_path / 'run'}"]
    whole_run.train(parse_args([*ARGUMENTS, *given, "--epochs=1"]))
    assert read_run(tmp_path / "run")[0].data_dir == str(tmp_path / "sets")


def blacken(root: Path) -> None:
    """Change the pixels of pictures, and neither names nor sizes of their files."""
    for path in root.rglob("*.png"):
        size = path.stat().st_size
        data = path.read_bytes()
        Image.new("RGB", Image.open(path).size).save(path)
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        assert path.stat().st_size == size and path.read_bytes() != data


@pytest.mark.parametrize("change", [None, add, rename, blacken])
def test_a_command_says_if_the_data_of_a_run_have_changed(begun, change, capsys):
    root, begun = begun
    if change is not None:
        change(root)
    run, _ = read_run(Path(begun.workdir))
    capsys.readouterr()
    elsewhere = EvaluateConfig(f"{root.parent / 'other'}", weights=begun.workdir)
    open_splits(run, elsewhere)
    of_weights = capsys.readouterr().out
    open_splits(run, EvaluateConfig(begun.workdir))
    said = capsys.readouterr().out
    assert said == of_weights
    asked = asked_for(run)
    assert reads_own(run, asked)
    print_changes(Path(begun.workdir), everything(asked, "all", root).sources)
    both = said, capsys.readouterr().out
    assert ["the data have changed since" in text for text in both] == [
        change is not None
    ] * 2
    assert not reads_own(run, asked_for(run, unlabelled=True))


@pytest.mark.parametrize("workdir", [None, "runs/a", ".", "a/run"])
def test_a_work_folder_in_the_folder_of_pictures_is_refused(
    workdir, tmp_path, no_steps, monkeypatch
):
    root = pictures(tmp_path / "p", [f"{c}/{k}.png" for c in "ab" for k in range(4)])
    monkeypatch.chdir(root)
    made = dataclasses.replace(config(root, tmp_path), workdir=workdir)
    with pytest.raises(InputError, match="would lie in .*choose a --workdir outside"):
        whole_run.train(made)
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]
    monkeypatch.chdir(tmp_path)
    whole_run.train(dataclasses.replace(made, workdir="q/run"))


@pytest.mark.parametrize(
    "train, test", [("Train", "test"), ("training", "testing"), ("extra", "hold")]
)
def test_a_work_folder_beside_the_splits_is_among_no_pictures(train, test, tmp_path):
    names = [f"{split}/{c}/0.png" for split in (train, test) for c in "ab"]
    root = pictures(tmp_path, [*names, "other/c/0.png"])
    data = DataConfig(train_split=train.lower(), test_split=test)
    of_splits = TrainConfig(dataset=f"folder:{root}", data=data)
    for place, among in {"runs/a": 0, "other": 0, f"{train}/runs": 1, ".": 1}.items():
        assert holds(of_splits, root / place) == bool(among)


def test_a_link_to_the_pictures_may_lead_to_another_disk_tomorrow(tmp_path):
    for disk in ("1", "2"):
        (tmp_path / disk).mkdir()
    link = tmp_path / "data"
    link.symlink_to("1", target_is_directory=True)
    saved = absolute(f"folder:{link}/")
    assert saved == f"folder:{link}"
    assert same_set(saved, f"folder:{tmp_path / '1'}")
    link.unlink()
    link.symlink_to("2", target_is_directory=True)
    assert same_set(saved, f"folder:{link}")
    assert not same_set(saved, f"folder:{tmp_path / '1'}")


@pytest.mark.parametrize("place", ["runs", "runs/grid", "a", "."])
def test_the_figures_of_an_earlier_run_are_no_pictures(place, begun):
    """Earlier versions wrote runs into the folder of pictures."""
    root, begun = begun
    inside = root / place / "run"
    shutil.copytree(begun.workdir, inside)
    Image.new("RGB", (99, 40)).save(inside / "views.png")
    found = find_data(begun)
    assert found.found.train.class_names == ("a", "b") and len(found) == 18
    assert any("1 work folder of runs" in note for note in found.notes)
    save(inside)
    whole_run.train(dataclasses.replace(begun, workdir=str(inside)))
    assert len(find_data(begun)) == 18


def test_other_pixels_in_files_of_one_size_are_said(tmp_path, no_steps, capsys):
    """Files of NumPy, BMP and TIFF keep their size whatever is in them."""
    names = [f"{c}/{k}.bmp" for c in "ab" for k in range(10)]
    begun = config(pictures(tmp_path / "p", names), tmp_path / "run")
    for _ in range(2):
        whole_run.train(begun)
        save(tmp_path / "run")
    assert "the pixels of" not in capsys.readouterr().out
    file = next(path for path in (tmp_path / "p/a").iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 255
    file.write_bytes(data)
    whole_run.train(begun)
    assert "the pixels of t" in capsys.readouterr().out


IN_FILES = "--data.in-memory-gib=1e-9"


@pytest.mark.parametrize(
    ("sizes", "arguments", "share"),
    [
        ((16, 16), [], 1.0),
        ((16, 16), [IN_FILES], 1.0),
        ((32, 32), [IN_FILES, "--data.image-size=16"], 224 / 256),
        ((16, 24), ["--data.image-size=16"], 224 / 256),
    ],
)
def test_the_central_part_of_evaluation_is_written(
    sizes, arguments, share, tmp_path, no_steps
):
    """Exports record it too."""
    for label, size in zip("ab", sizes, strict=True):
        pictures(tmp_path / "p", [f"{label}/{k}.png" for k in range(4)], size)
    whole_run.train(config(tmp_path / "p", tmp_path / "run", *arguments))
    written = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert written["crop_share"] == share


def test_a_file_of_an_older_version_compares_what_it_has(begun):
    _, begun = begun
    path = Path(begun.workdir) / "dataset.json"
    saved = json.loads(path.read_text())
    for key in ("held", "location"):
        del saved[key]
    del saved["train"]["identity"]
    path.write_text(json.dumps(saved))
    whole_run.train(begun)


def test_what_is_not_used_and_what_is_odd_is_written(tmp_path, no_steps):
    root = pictures(tmp_path / "p", [f"{c}/{k}.png" for c in "ab" for k in range(4)])
    for name in ("black", "blacker"):  # one of them, at least, is trained on
        Image.new("RGB", (16, 16)).save(root / "a" / f"{name}.png")
    (root / "a" / "notes.txt").touch()
    whole_run.train(config(root, tmp_path / "run"))
    written = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert written["not_used"][".txt"]["files"] == 1
    assert written["notes"][0] == "1 file not used: 1 .txt (a/notes.txt)"
    assert "one plain colour: a/black" in written["notes"][1]


@pytest.mark.parametrize("names", [["a/1.png", "b/1.png"], ["1.png"], ["a/1.png"]])
def test_one_picture_a_class_is_enough_to_train(tmp_path, names, no_steps):
    root = pictures(tmp_path / "p", names)
    once = ["--steps=1", "--batch-size=2", "--optim.warmup-epochs=0"]
    whole_run.train(evaluated(config(root, tmp_path / "run", *once)))
    (data,) = no_steps
    assert len(data.train) == len(names) and data.test is None
    assert "nothing is evaluated" in data.description["notes"][-1]
    some = np.arange(2) % len(names)
    assert data.train.images(some).shape == (2, 16, 16, 3)


def test_without_evaluation_no_test_split_is_needed(tmp_path, no_steps):
    root = pictures(tmp_path / "p", [f"train/a/{k}.png" for k in range(3)])
    once = ["--steps=1", "--batch-size=2", "--optim.warmup-epochs=0"]
    made = config(root, tmp_path / "run", *once)
    whole_run.train(made)
    assert len(no_steps[0].train) == 3
    with pytest.raises(InputError, match="--evaluation.skip"):
        whole_run.train(evaluated(made))


STREAM = ("--data.in-memory-gib=1e-9", "--on-bad-image=skip")


def half_bad(root: Path) -> Path:
    """9 of 20 test pictures are cut, and one of training."""
    names = [f"train/{c}/{k}.png" for c in "ab" for k in range(8)]
    names += [f"test/{c}/{k}.png" for c in "ab" for k in range(10)]
    pictures(root, names, size=40)
    for k in range(9):
        cut(root / "test" / "ab"[k % 2] / f"{k}.png")
    cut(root / "train" / "a" / "3.png")
    return root


def test_skipped_pictures_are_listed_and_a_resumed_run_skips_the_same(tmp_path):
    made = config(half_bad(tmp_path / "p"), tmp_path, *STREAM)
    source = open_source(made, "train")
    SkippedFile(tmp_path).follow(source)
    everything = np.arange(len(source))
    crops = source.crops(everything, everything, 0)["crops"]
    (row,) = map(json.loads, (tmp_path / "skipped.jsonl").read_text().splitlines())
    assert row["split"] == "train" and row["file"].endswith("a/3.png")
    assert "truncated" in row["reason"] and row["index"] == 3
    pictures(tmp_path / "p", ["train/a/3.png"], size=40)  # mended meanwhile
    again, known = open_source(made, "train"), SkippedFile(tmp_path, process=1)
    known.follow(again)
    assert len(known) == 1
    np.testing.assert_array_equal(
        again.crops(everything, everything, 0)["crops"], crops
    )


@pytest.mark.parametrize("line", ["{}", "[]", "5", '{"split": "train", "index": 3}'])
def test_a_line_that_names_no_picture_is_one_sentence(line, tmp_path):
    (tmp_path / "skipped.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match="names no skipped picture at line 1; repair"):
        SkippedFile(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [{"train": 5}, {"test": [1]}, {"train": {"images": "5"}}, {"class_names": 3}],
)
def test_a_description_of_another_form_is_one_sentence(begun, damage):
    _, begun = begun
    path = Path(begun.workdir) / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(InputError, match="dataset.json is not that of a run; restore"):
        whole_run.train(begun)


def test_a_run_that_begins_anew_reads_all_its_pictures(tmp_path, no_steps):
    root = pictures(tmp_path / "p", [f"{c}/{k}.png" for c in "ab" for k in range(10)])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "skipped.jsonl").write_text("")
    whole_run.train(config(root, tmp_path / "run", *STREAM))
    assert not (tmp_path / "run" / "skipped.jsonl").exists()


@pytest.mark.parametrize("moved", [False, True])
def test_rows_of_other_pictures_leave_no_picture_out(tmp_path, moved):
    made = config(half_bad(tmp_path / "p"), tmp_path, *STREAM)
    old = "/before/train/a/3.png" if moved else "train/b/9.png"
    rows = [
        {"split": "train", "index": index, "file": old, "reason": "truncated"}
        for index in (3, 99)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "skipped.jsonl").write_text(text)
    source, known = open_source(made, "train"), SkippedFile(tmp_path)
    known.follow(source)
    assert (len(source.skipped) == 1) == moved
    if not moved:
        assert len(known) == 0


def test_pictures_that_another_process_skips_are_counted_too(tmp_path):
    own = SkippedFile(tmp_path)
    own._add("train", 1, "a.png", "truncated")
    for name in ("a.png", "b.png"):
        SkippedFile(tmp_path, process=1)._add("train", 2, name, "truncated")
    assert len(own) == 1
    own.read_others()
    assert len(own) == 2


def test_the_final_evaluation_counts_no_picture_twice(tmp_path):
    made = config(half_bad(tmp_path / "p"), tmp_path, *STREAM)
    sources = [open_source(made, split) for split in ("train", "test")]
    evaluator = Evaluator(only(made), *sources)
    assert tuple(map(len, evaluator.used)) == (15, 11)
    assert len(sources[1].skipped) == 9


@pytest.mark.slow
def test_a_whole_run_with_bad_pictures_says_how_many_it_skipped(tmp_path, capsys):
    made = config(half_bad(tmp_path / "p"), tmp_path / "run", *STREAM, "--steps=2")
    summary = whole_run.train(evaluated(made))
    rows = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert summary["skipped_images"] == len(rows) == 10
    assert round(summary["knn"]["trained"] * 11, 6) % 1 == 0  # of 11 pictures
    assert "10 bad pictures" in capsys.readouterr().out


def test_a_warm_up_that_fills_the_run_is_refused_before_anything_is_decoded(tmp_path):
    root = pictures(tmp_path / "p", [f"a/{k}.png" for k in range(20)])
    cut(root / "a" / "0.png")  # would be met if it were decoded
    given = ["--steps=2", "--optim.warmup-epochs=3"]
    with pytest.raises(InputError, match="warmup-epochs"):
        whole_run.train(config(root, tmp_path / "run", *given))
