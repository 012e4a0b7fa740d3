"""The encoders of the comparison: untrained, pre-trained, and trained with labels.

Under Muon kernels grow. A norm follows each of them, so their length does not change
what the network computes. But a kernel that is six times as long learns under SGD as if
its rate were 36 times smaller. `rescaled` is the pre-trained encoder with the initial
lengths of its kernels.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree import parse_args, train
from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.sources import Source, open_source
from byol_bnfree.encoder import Encoder, load_encoder
from byol_bnfree.evaluation.final import STATISTICS
from byol_bnfree.evaluation.kept.arrays import write_npz
from byol_bnfree.evaluation.methods.tuning import supervised_evaluation
from byol_bnfree.evaluation.settings import SupervisedSettings
from byol_bnfree.interop.trees import flat, nested
from byol_bnfree.untrained import untrained_encoder

RESCALED = "rescaled"
KINDS = ("untrained", "pre-trained", RESCALED, "supervised")


def workdir_of(norm: str, seed: int, epochs: int, folder: Path) -> Path:
    """Return the work folder of a pre-training."""
    return folder / f"{norm}-seed{seed}-{epochs}"


@functools.cache
def encoder_of(kind: str, norm: str, seed: int, epochs: int, folder: Path) -> Encoder:
    """Return an encoder of the built-in shapes. All kinds have the same network.

    `pre-trained` is BYOL's default run with `epochs`. `supervised` trains the untrained
    network with the labels of the same pictures for as many epochs.
    """
    workdir = workdir_of(norm, seed, epochs, folder)
    flags = [f"--norm={norm}", f"--seed={seed}", f"--epochs={epochs}"]
    config = parse_args([*flags, "--evaluation.skip", f"--workdir={workdir}"])
    train(config)  # does nothing if it is finished, and refuses other settings
    kernels = choose_kernels("auto", jax.device_count())
    if kind == "pre-trained":
        return load_encoder(workdir, kernels=kernels)
    pictures, tests = (open_source(config, split) for split in ("train", "test"))
    first = pictures.images(np.arange(STATISTICS))
    start = untrained_encoder(workdir, first, kernels=kernels)
    if kind == "untrained":
        return start
    if kind == RESCALED:
        return load_encoder(workdir, kernels=kernels).with_initial_lengths()
    stored = workdir / "supervised.npz"
    if not stored.exists():
        write_npz(stored, flat(_with_labels(start, pictures, tests, epochs, seed)))
    with np.load(stored) as arrays:
        variables = jax.tree.map(jnp.asarray, nested(dict(arrays)))
    return Encoder(start.module, variables, start.config, start.step)


def _with_labels(
    start: Encoder, pictures: Source, tests: Source, epochs: int, seed: int
) -> dict[str, Any]:
    """Return the variables of an encoder after training with labels."""
    settings = SupervisedSettings(epochs=epochs, warmup_epochs=1, batch_size=64)
    found = supervised_evaluation(start, pictures, tests, settings, seed=seed)
    print(f"supervised: top-1 {found.figures['top1']:.3f}", flush=True)
    return found.fitted.variables
