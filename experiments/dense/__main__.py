"""Does pre-training help dense tasks, and what does a batch of 2 do under each norm?

    python -m experiments.dense --seeds 0 1 2

README.md has the conditions and the results. Finished arms of results.jsonl are not
repeated. Then the tables of README.md and the figure are made from results.jsonl. With
other --epochs or --pictures the tables are only printed.
"""

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.flags import cli
from experiments.dense.arguments import Arguments


def main(arguments: Arguments) -> None:
    """Carry the arguments out."""
    from experiments.dense.comparison import (
        carry_out,  # after parsing: --help needs no JAX
    )

    carry_out(arguments)


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
