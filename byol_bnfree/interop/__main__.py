"""`python -m byol_bnfree.interop`: other people's files as work folders."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from byol_bnfree.command_line import exit_on_error


def deepmind(file: Annotated[str, tyro.conf.Positional], workdir: str) -> None:
    """Make a work folder of a checkpoint that DeepMind released for BYOL.

    Args:
      file: such as pretrain_res50x1.pkl.
      workdir: a new folder, for evaluate, load_encoder and --init-from.
    """
    from byol_bnfree.interop import deepmind  # after parsing: --help is quick

    folder = deepmind.write_work_folder(file, workdir)
    print(deepmind.LICENCE)
    print(
        f"{folder} holds the networks; measure them with "
        f"`python -m byol_bnfree.evaluate --workdir={folder}`."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, convert, print; see `--help`."""
    tyro.extras.subcommand_cli_from_dict(
        {"deepmind": deepmind},
        args=sys.argv[1:] if argv is None else list(argv),
        prog="python -m byol_bnfree.interop",
        description="Other people's files as work folders.",
    )


def command() -> None:
    """`byol-interop` and `python -m byol_bnfree.interop`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
