"""How much longer are the kernels of a trained encoder than before its training?

    python -m experiments.dense.lengths --folder runs/dense

Prints the median and the range of the ratio over the convolutions, for the pre-trained
and the supervised encoders of `experiments.dense`.
"""

import numpy as np

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.flags import cli
from byol_bnfree.models.kernel_lengths import free_kernels
from experiments.dense.arguments import Arguments
from experiments.dense.encoders import encoder_of


def main(arguments: Arguments) -> None:
    """Print a line for each encoder."""
    for norm in arguments.norms:
        for seed in arguments.seeds:
            made = norm, seed, arguments.epochs, arguments.folder
            for kind in ("pre-trained", "supervised"):
                encoder = encoder_of(kind, *made)
                kernels = free_kernels(encoder.module, encoder.variables)
                ratios = [kernel.growth() for kernel in kernels]
                print(
                    f"{norm} {kind} seed {seed}: median {np.median(ratios):.1f}, "
                    f"{min(ratios):.1f} to {max(ratios):.1f}"
                )


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
