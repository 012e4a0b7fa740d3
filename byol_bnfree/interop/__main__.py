"""`python -m byol_bnfree.interop` turns checkpoints of others into work folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.flags import rules


def deepmind(file: Annotated[Path, tyro.conf.Positional], workdir: Path) -> None:
    """Make a work folder from a checkpoint that DeepMind released for BYOL.

    Args:
      file: a checkpoint, such as pretrain_res50x1.pkl.
      workdir: a new folder, for evaluate, load_encoder and --init-from.
    """
    from byol_bnfree.interop import deepmind  # after parsing: --help is quick

    folder = deepmind.write_work_folder(file, workdir)
    print(deepmind.LICENCE)
    print(
        f"{folder} holds the networks; evaluate them with "
        f"`python -m byol_bnfree.evaluate --workdir={folder}`."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags, convert, and print. See `--help`."""
    tyro.extras.subcommand_cli_from_dict(
        {"deepmind": deepmind},
        args=argv,
        prog="python -m byol_bnfree.interop",
        registry=rules(),
        description="Make work folders from checkpoints of other projects.",
    )


def command() -> None:
    """Run `byol-interop` or `python -m byol_bnfree.interop`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
