"""`train --init-from` and `evaluate --weights` as users run them, for every format."""

import json
import re
from pathlib import Path

import assembler
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from test_deepmind import trees
from test_foreign import resnet18, state_dict, torch_file

from byol_bnfree import load_encoder, parse_args, train
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.evaluate import main as evaluate
from byol_bnfree.export import main as export
from byol_bnfree.interop.trees import flat
from byol_bnfree.whole_run import run as whole_run
from runs import ARGUMENTS, copy_of, trained

NOTHING = {"trained": None, "untrained": None}
SUMMARY = {"steps": 0, "knn": NOTHING, "linear": NOTHING, "images_per_s": None}
DEEPMIND = [
    *("--model.name=resnet50", "--model.width=0.0625", "--model.stem=imagenet"),
    "--norm=bn",
]
FOREIGN = [
    *("--model.name=resnet18", "--model.width=0.125", "--model.stem=imagenet"),
    *("--model.padding=torch", "--model.shortcuts=changed_shape", "--norm=bn"),
]


@pytest.fixture
def programs(monkeypatch):
    """What runs would begin with; their steps are left out."""
    seen = []
    keep = lambda program, *_, **__: seen.append(program) or SUMMARY  # noqa: E731
    monkeypatch.setattr(whole_run, "run_steps", keep)
    return seen


@pytest.fixture(scope="module")
def formats(tmp_path_factory) -> dict[str, Path]:
    """One trained encoder in our formats, and others' files."""
    root, run = tmp_path_factory.mktemp("formats"), trained("gn_ws")
    options = [f"--workdir={run}", "--no-compare"]
    for kind in ("safetensors", "torch", "stablehlo", "hub-folder"):
        export([*options, f"--format={kind}", f"--out={root}/{kind}"])
    (root / "theirs.pkl").write_bytes(assembler.checkpoint(trees()))
    arrays = state_dict(resnet18())
    save_file(arrays, root / "resnet18.safetensors")
    torch_file(root / "resnet18.pth", arrays)
    return {
        "work folder": run,
        **{kind: root / kind for kind in ("safetensors", "torch", "stablehlo")},
        "hub folder": root / "hub-folder",
        "one file": root / "safetensors" / "encoder.safetensors",
        "DeepMind's": root / "theirs.pkl",
        "state dict": root / "resnet18.safetensors",
        "torch.save": root / "resnet18.pth",
    }


def started(tmp_path, source: Path, *arguments: str) -> None:
    folder = f"--workdir={tmp_path}/run"
    given = [*ARGUMENTS, folder, f"--init-from={source}", *arguments]
    train(parse_args(given))


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("work folder", [], "taken: encoder (30 arrays), predictor (5"),
        (
            "work folder",
            ["--init-from-part=encoder"],
            "fresh, not in the file: predictor (5 arrays), probe",
        ),
        ("safetensors", [], "taken: encoder (30 arrays)\n"),
        ("hub folder", [], "fresh, not in the file: predictor (5 arrays), probe"),
        ("one file", [], "(step 4), with a new optimizer"),
        (
            "work folder",
            ["--model.projector.hidden=12"],
            "fresh, did not fit: projector/fc1/bias is (8,) in the file and (12,)",
        ),
        ("DeepMind's", DEEPMIND, "fresh, did not fit: probe/bias is (3,)"),
        (
            "DeepMind's",
            [*DEEPMIND, "--init-from-part=encoder"],
            "fresh, not in the file: predictor (5 arrays), probe (2 arrays), projector",
        ),
        ("torch.save", FOREIGN, "fresh, not in the file: predictor (5 arrays), probe"),
        ("state dict", FOREIGN, "taken: encoder (60 arrays)"),
    ],
)
def test_training_says_what_it_takes(
    tmp_path, programs, formats, capsys, kind, arguments, said
):
    started(tmp_path, formats[kind], *arguments)
    out = capsys.readouterr().out
    assert f"starting from {formats[kind]}" in out and said in out
    assert len(programs) == 1


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("work folder", ["--norm=bn"], "has norm gn_ws, .* --init-from-other-norm"),
        ("DeepMind's", [*DEEPMIND, "--norm=gn_ws"], "has norm bn, .* has gn_ws"),
        ("torch", [], "has norm gn, but that of this run has gn_ws"),
        ("work folder", ["--model.width=0.5"], "no encoder array in .* fits"),
    ],
)
def test_what_cannot_be_taken_ends_with_status_2(
    tmp_path, programs, formats, capsys, kind, arguments, said
):
    def command():
        started(tmp_path, formats[kind], *arguments)

    with pytest.raises(SystemExit) as ended:
        exit_on_error(command)
    assert ended.value.code == 2 and not programs
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(said, error), error
    assert not (tmp_path / "run").exists()


def test_weights_of_another_norm_are_taken_when_asked(tmp_path, programs, formats):
    more = ["--norm=bn", "--init-from-other-norm"]
    started(tmp_path, formats["work folder"], *more)
    assert len(programs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["work folder", "hub folder"])
def test_steps_go_on_from_the_weights(tmp_path, formats, kind):
    """At a tiny rate three steps leave the encoder where it began."""
    started(tmp_path, formats[kind], "--steps=3", "--base-lr=1e-9")
    before, after = load_encoder(formats[kind]), load_encoder(tmp_path / "run")
    expected = flat(before.variables["params"])
    for name, value in flat(after.variables["params"]).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
    assert after.step == 3


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for index in range(24):
        path = root / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        draws = np.random.default_rng(index)
        noise = draws.integers(0, 200, (16, 16, 3), np.uint8)
        noise[..., index % 2] //= 2
        Image.fromarray(noise).save(path)
    return root


def measured(tmp_path: Path, weights: Path | None, data: Path) -> dict[str, float]:
    """Figures of kNN by the command line."""
    more = [] if weights is None else [f"--weights={weights}"]
    given = [f"--workdir={tmp_path}", f"--dataset=folder:{data}", "--knn.k=3"]
    evaluate([*given, *more, "--protocol", "knn", "--batch-size=8"])
    rows = (tmp_path / "evaluations.jsonl").read_text().splitlines()
    return json.loads(rows[-1])["figures"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["safetensors", "torch", "stablehlo", "hub folder", "one file"]
)
def test_our_formats_measure_as_the_run_does(tmp_path, formats, photographs, kind):
    run = copy_of(formats["work folder"], tmp_path)
    expected = measured(run, None, photographs)
    assert measured(tmp_path / "other", formats[kind], photographs) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["DeepMind's", "state dict", "torch.save"])
def test_other_peoples_files_are_measured(tmp_path, formats, photographs, kind):
    figures = measured(tmp_path, formats[kind], photographs)
    assert all(0 <= value <= 1 for value in figures.values())
