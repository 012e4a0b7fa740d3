"""`python -m experiments NAME...` runs grids; `report` and `state` write pages."""

from collections.abc import Sequence

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.flags import cli
from experiments.arguments import Arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and carry them out. See `--help`."""
    arguments = cli(
        Arguments,
        args=argv,
        prog="python -m experiments",
        description="Repeat the tables of BYOL's papers, with and without batch "
        "statistics.",
    )
    from experiments.command import carry_out  # after parsing: --help needs no JAX

    carry_out(arguments)


if __name__ == "__main__":
    exit_on_error(main)
