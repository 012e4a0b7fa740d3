"""The encoders of the comparison: untrained, pre-trained, and trained with labels."""

import functools
from pathlib import Path

import numpy as np

from byol_bnfree import parse_args, train
from byol_bnfree.data.sources import open_source
from byol_bnfree.encoder import Encoder, load_encoder, untrained_encoder
from byol_bnfree.evaluation.config import SupervisedSettings
from byol_bnfree.evaluation.final import STATISTICS
from byol_bnfree.evaluation.methods.tuning import supervised_evaluation

KINDS = ("untrained", "pre-trained", "supervised")


@functools.cache
def encoder_of(kind: str, norm: str, seed: int, epochs: int, folder: Path) -> Encoder:
    """Return an encoder of the built-in shapes. All kinds have the same network.

    `pre-trained` is BYOL's default run with `epochs`. `supervised` trains the untrained
    network with the labels of the same pictures for as many epochs.
    """
    workdir = folder / f"{norm}-seed{seed}-{epochs}"
    flags = [f"--norm={norm}", f"--seed={seed}", f"--epochs={epochs}"]
    config = parse_args([*flags, "--evaluation.skip", f"--workdir={workdir}"])
    if not (workdir / "summary.json").exists():
        train(config)
    if kind == "pre-trained":
        return load_encoder(workdir)
    pictures, tests = (open_source(config, split) for split in ("train", "test"))
    start = untrained_encoder(workdir, pictures.images(np.arange(STATISTICS)))
    if kind == "untrained":
        return start
    settings = SupervisedSettings(epochs=epochs, warmup_epochs=1, batch_size=64)
    found = supervised_evaluation(start, pictures, tests, settings, seed=seed)
    print(f"supervised {norm}: top-1 {found.figures['top1']:.3f}", flush=True)
    variables = found.fitted.variables
    return Encoder(start.module, variables, start.config, start.step)
