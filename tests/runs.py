"""A finished run of a few steps, and evaluations of it that keep quiet."""

import functools
import shutil
import tempfile
from pathlib import Path

from byol_bnfree import parse_args, train
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.run import evaluate

ARGUMENTS = (
    "--batch-size=8 --steps=4 --model.name=resnet8 --model.width=0.25 "
    "--model.stem=small --model.stem-stride=2 --model.projector.hidden=8 "
    "--model.projector.out=8 --model.predictor.hidden=8 --model.predictor.out=8 "
    "--model.min-group-channels=2 "
    "--base-lr=0.4 --optim.warmup-epochs=0.1 --evaluation.skip "
    "--data.image-size=16 --data.shapes-train=160 --data.shapes-test=48"
).split()
_folder = tempfile.TemporaryDirectory(prefix="runs-")


@functools.cache
def trained(norm: str = "gn_ws") -> Path:
    """A run that tests must not write to; copy it."""
    workdir = Path(_folder.name) / norm
    train(parse_args([*ARGUMENTS, f"--norm={norm}", f"--workdir={workdir}"]))
    return workdir


def copy_of(workdir: Path, to: Path) -> Path:
    """A run to evaluate."""
    return Path(shutil.copytree(workdir, to / "run"))


def run(workdir: Path, *protocols: str, **fields) -> list[dict]:
    """Rows of an evaluation."""
    config = EvaluateConfig(str(workdir), protocols, batch_size=64, **fields)
    return evaluate(config)
