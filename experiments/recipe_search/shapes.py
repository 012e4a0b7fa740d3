"""Which optimizer suits a norm on the generated shapes, the default data?

    python -m experiments.recipe_search.shapes --norms bn gn_ws --seeds 0 1

Each trial is the default run with other settings of the optimizer. It is judged
by kNN: the last quarter of the training pictures against the others. So the test split
chooses nothing. Rows are appended to shapes.jsonl. A trial takes two minutes on a core.
"""

import itertools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from byol_bnfree import load_encoder, parse_args, train
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import Norm
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.sources import open_source
from byol_bnfree.evaluation.features import encoder_features
from byol_bnfree.evaluation.methods.knn import knn_accuracy
from byol_bnfree.files import append_row
from byol_bnfree.flags import cli
from byol_bnfree.training.environment import environment
from experiments.recipe_search import CONSTANT, MUON

LARS = ("--optim.name=lars", "--optim.momentum=0.9", "--optim.weight-decay=1e-6")
TRIALS = {
    **{f"muon-{r:g}": (*MUON, *CONSTANT, f"--base-lr={r:g}") for r in (0.02, 0.04)},
    "muon-0.08": (*MUON, *CONSTANT, "--base-lr=0.08"),
    "lars-4": (*LARS, "--optim.tau-schedule=cosine", "--base-lr=4"),
}
HELD_OUT = 0.25  # share of the training pictures


@dataclass(frozen=True)
class Arguments:
    """Try optimizers on the generated shapes."""

    norms: tuple[Norm, ...] = ("bn", "gn_ws")
    """Norms of every trial."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of every trial."""
    results: Path = Path(__file__).with_name("shapes.jsonl")
    """File of the results, a line per trial."""


def main(arguments: Arguments) -> None:
    """Run all trials and print their accuracies."""
    machine = {k: v for k, v in environment().items() if k != "argv"}  # has paths
    trials = itertools.product(arguments.seeds, arguments.norms, TRIALS.items())
    for seed, norm, (name, flags) in trials:
        accuracy = trial([*flags, f"--norm={norm}", f"--seed={seed}"])
        found = {"trial": name, "norm": norm, "seed": seed, "held_out_knn": accuracy}
        append_row(arguments.results, found | {"environment": machine})
        print(json.dumps(found), flush=True)


def trial(flags: list[str]) -> float:
    """Train with these flags; return kNN accuracy on held-out training pictures."""
    with tempfile.TemporaryDirectory() as workdir:
        config = parse_args([*flags, "--evaluation.skip", f"--workdir={workdir}/run"])
        train(config)
        kernels = choose_kernels("auto", jax.device_count())
        encoder = load_encoder(f"{workdir}/run", kernels=kernels)
    pictures = open_source(config, "train")
    features = encoder_features(encoder, pictures)
    labels = pictures.labels(np.arange(len(pictures)))
    kept = round((1 - HELD_OUT) * len(pictures))
    return knn_accuracy(
        features[:kept],
        labels[:kept],
        features[kept:],
        labels[kept:],
        num_classes=pictures.num_classes,
    )


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
