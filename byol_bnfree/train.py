"""`python -m byol_bnfree.train`: pre-train BYOL, with or without batch statistics."""

from byol_bnfree.command_line import exit_on_error, parse_args
from byol_bnfree.cpu.allocator import run_in_calling_thread


def main() -> None:
    """Parse, train, print; see `--help`."""
    config = parse_args()
    run_in_calling_thread()
    from byol_bnfree.pretraining import train  # after parsing: --help needs no JAX

    train(config)


if __name__ == "__main__":
    exit_on_error(main)
