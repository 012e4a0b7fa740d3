"""Does pre-training help dense tasks, and what does a batch of 2 do under each norm?

    python -m experiments.dense --seeds 0 1 2

Generated scenes of 64 x 64 pixels, 256 to train on and 128 to test. For each norm the
network is untrained, pre-trained by BYOL on the built-in shapes, or trained with their
labels. It is fine-tuned with the paper's head (narrower), or frozen under a linear
layer. All arms see the same number of pictures; a batch of 2 takes eight times the
steps of a batch of 16, at an eighth of the rate. Finished arms of results.jsonl are
not repeated.
"""

import dataclasses
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.dense.evaluation import dense_evaluation
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.training.environment import environment
from byol_bnfree.user_cache import compiled_programs_kept
from experiments.dense.encoders import KINDS, encoder_of
from experiments.dense.table import print_table

RESULTS = Path(__file__).with_name("results.jsonl")
USUAL, SMALL = 16, 2  # pictures of a batch
STRIDE = {"segmentation": 8, "depth": 8, "detection": 4}
WIDTH = 32  # channels of a head; the paper's 256 would outweigh this encoder
NARROW: dict[str, dict[str, Any]] = {
    "segmentation": {"width": WIDTH},
    "depth": {},
    "detection": {"tower_width": WIDTH, "tower_depth": 2, "scales": (1.0, 1.0)},
}


TUNED = ("fine-tuned", "linear")


class Arm(NamedTuple):
    """One fit of the comparison."""

    seed: int
    task: str
    norm: str
    encoder: str
    tuned: str
    """fine-tuned, or linear on the frozen encoder."""
    batch: int


@dataclass(frozen=True)
class Arguments:
    """Compare dense tasks."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of pre-training, head and batches."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Dense tasks."""
    norms: tuple[str, ...] = ("bn", "gn_ws")
    """Norms of encoder and head."""
    epochs: int = 10
    """Epochs of pre-training and of supervised training."""
    pictures: int = 6400
    """Pictures that a fit sees, with repetitions."""
    rate: float = 0.3
    """Learning rate of a batch of 16 for segmentation; a fifth of it for the
    others."""
    folder: Path = Path("runs/dense")
    """Work folders of pre-training."""
    table: bool = False
    """Only print the table of results.jsonl."""


def main(arguments: Arguments) -> None:
    """Run the arms that results.jsonl lacks, and print the table."""
    machine = {k: v for k, v in environment().items() if k != "argv"}  # has paths
    now = {"commit": commit(), "environment": machine}
    for arm in () if arguments.table else arms(arguments):
        settings = settings_of(arm, arguments)
        chosen = dataclasses.asdict(settings) | {"epochs": arguments.epochs}
        asked = {"arm": arm._asdict(), "settings": json.loads(json.dumps(chosen))}
        if any(row | asked == row for row in rows()):
            continue
        print(" ".join(map(str, arm)), flush=True)
        with compiled_programs_kept("auto"):
            measured = measure(arm, settings, arguments)
        row = asked | measured | now
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print_table(rows())


def arms(arguments: Arguments) -> Iterator[Arm]:
    """Yield all arms, one seed after the other, so that early ones are complete."""
    norms = arguments.norms
    for seed, task in itertools.product(arguments.seeds, arguments.tasks):
        plan = [
            *((kind, tuned, USUAL) for tuned in TUNED for kind in KINDS[:2]),
            (KINDS[0], TUNED[0], SMALL),
            *((KINDS[2], tuned, USUAL) for tuned in TUNED),
        ]
        for (kind, tuned, batch), norm in itertools.product(plan, norms):
            yield Arm(seed, task, norm, kind, tuned, batch)


def settings_of(arm: Arm, arguments: Arguments) -> DenseSettings:
    """Return the task's settings for an arm."""
    usual = getattr(EvaluateConfig("unused"), arm.task)
    share = 1.0 if arm.task == "segmentation" else 0.2
    frozen = arm.tuned == "linear"
    # No norm stands before a linear layer, and the map's values are large.
    rate = arguments.rate * share * (0.1 if frozen else 1.0)
    return dataclasses.replace(
        usual,
        steps=arguments.pictures // arm.batch,
        batch_size=arm.batch,
        rates=(rate * arm.batch / USUAL,),
        stride=STRIDE[arm.task],
        encoder="frozen" if frozen else "trained",
        head="linear" if frozen else "paper",
        **NARROW[arm.task],
    )


def measure(arm: Arm, settings: DenseSettings, arguments: Arguments) -> dict[str, Any]:
    """Fit and test an arm; return figures and seconds."""
    encoder = encoder_of(
        arm.encoder, arm.norm, arm.seed, arguments.epochs, arguments.folder
    )
    windows = Windows((64, 64), settings.scales)
    train, test = (
        DenseView(Scenes(split, total), windows, arm.seed)
        for split, total in (("train", 256), ("test", 128))
    )
    began = time.perf_counter()
    found = dense_evaluation(
        TASKS[arm.task], encoder, train, test, settings, seed=arm.seed
    )
    seconds = round(time.perf_counter() - began, 1)
    return {"figures": found.outcome.figures, "curve": found.curve, "seconds": seconds}


def rows() -> list[dict[str, Any]]:
    """Return all stored results."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def commit() -> str:
    """Return the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main(tyro.cli(Arguments))
