"""`python -m byol_bnfree.evaluate` evaluates a run with the papers' protocols."""

from collections.abc import Sequence

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import PAPERS
from byol_bnfree.cpu.allocator import keep_freed_memory, run_in_calling_thread
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.flags import cli
from byol_bnfree.machine.signals import signals_end_at_once


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags, evaluate, and print. See `--help`."""
    config = cli(
        EvaluateConfig,
        args=argv,
        prog="python -m byol_bnfree.evaluate",
        description="Evaluate the newest checkpoint of a run with the papers' "
        f"protocols. {PAPERS}",
    )
    run_in_calling_thread()
    keep_freed_memory()
    from byol_bnfree.evaluation.run import evaluate  # after parsing: --help is quick

    with signals_end_at_once("the same command"):
        evaluate(config)


def command() -> None:
    """Run `byol-evaluate` or `python -m byol_bnfree.evaluate`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
