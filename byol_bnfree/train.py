"""`python -m byol_bnfree.train` pre-trains BYOL, with or without batch statistics."""

import sys

from byol_bnfree.command_line import default_typed_in_vain, exit_on_error, parse_args
from byol_bnfree.config_files import other_length, other_optimizer
from byol_bnfree.cpu.allocator import keep_freed_memory, run_in_calling_thread
from byol_bnfree.errors import same_command
from byol_bnfree.machine.signals import signals_end_at_once


def main() -> None:
    """Parse the flags, train, and print. See `--help`."""
    config = parse_args()
    notes = (
        other_length(config),
        other_optimizer(config),
        default_typed_in_vain(config, sys.argv[1:]),
    )
    for note in filter(None, notes):
        print(f"note: {note}", file=sys.stderr)
    run_in_calling_thread()
    keep_freed_memory()
    from byol_bnfree.whole_run.run import train  # after parsing: --help needs no JAX

    with signals_end_at_once(same_command(config.workdir)):
        train(config)


def command() -> None:
    """Run `byol-train` or `python -m byol_bnfree.train`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
