"""How much longer are the kernels of a trained encoder than its initial ones?

    python -m experiments.dense.lengths --folder runs/dense

Prints the median and the range of the ratio over the convolutions, for the pre-trained
and the supervised encoders of `experiments.dense`.
"""

from typing import Any

import jax
import numpy as np

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.encoder import Encoder
from byol_bnfree.flags import cli
from experiments.dense.arguments import Arguments
from experiments.dense.encoders import encoder_of


def main(arguments: Arguments) -> None:
    """Print a line for each encoder."""
    for norm in arguments.norms:
        for seed in arguments.seeds:
            made = norm, seed, arguments.epochs, arguments.folder
            start = lengths(encoder_of("untrained", *made))
            for kind in ("pre-trained", "supervised"):
                ratio = lengths(encoder_of(kind, *made)) / start
                print(
                    f"{norm} {kind} seed {seed}: median {np.median(ratio):.1f}, "
                    f"{ratio.min():.1f} to {ratio.max():.1f}"
                )


def lengths(encoder: Encoder) -> Any:
    """Return the lengths of the kernels of all convolutions."""
    leaves = jax.tree.leaves(encoder.variables["params"])
    return np.array([np.linalg.norm(leaf) for leaf in leaves if leaf.ndim == 4])


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
