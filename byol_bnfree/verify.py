"""`python -m byol_bnfree.verify` checks this package's claims on your machine.

    python -m byol_bnfree.verify --norm=gn_ws

This checks every claim but the last of `CLAIMS`, in about ten minutes on two CPU cores.
`--claims independence program` chooses some. The exit status is 0 if all checked claims
hold, 1 if one does not, and 2 for impossible settings.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from byol_bnfree.command_line import default_config, exit_on_error
from byol_bnfree.config import PAPERS, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.flags import cli

if TYPE_CHECKING:
    from byol_bnfree.claims.finding import Finding

CLAIMS = {
    "independence": "outputs do not depend on other examples, in numbers",
    "program": "the same for all inputs, by the traced program",
    "loss": "the loss of an example does not depend on others",
    "control": "both checks detect BatchNorm",
    "pieces": "micro-batches give the full-batch gradient",
    "views": "views one at a time give the same gradient",
    "devices": "the number of devices does not matter",
    "resume": "a resumed run equals an uninterrupted one",
    "communication": "a BYOL step of gn_ws sends only gradients and metrics",
    "communication_resnet50": "the same for ResNet-50; three more minutes",
}
ON_REQUEST = "communication_resnet50"


@dataclass(frozen=True)
class Options:
    """Check the claims of this package for a configuration."""

    train: Annotated[TrainConfig, tyro.conf.arg(name="")]
    claims: tuple[str, ...] = tuple(name for name in CLAIMS if name != ON_REQUEST)
    """Claims to check, separated by spaces or commas: names in the default, and
    communication_resnet50 (about three minutes more)."""


def parse(argv: list[str]) -> tuple[TrainConfig, list[str]]:
    """Parse the configuration and the claims to check.

    Raises:
      SystemExit, InputError: as `command_line.parse_args`.
    """
    options = cli(
        Options,
        args=argv,
        default=Options(default_config(argv)),
        prog="python -m byol_bnfree.verify",
        description=f"Check the claims of this package for a configuration. {PAPERS}",
    )
    names = [name for given in options.claims for name in given.split(",")]
    if not names:
        raise InputError(f"claims is empty; choose from {', '.join(CLAIMS)}.")
    for name in names:
        if name not in CLAIMS:
            raise InputError(f"claims has {name!r}; choose from {', '.join(CLAIMS)}.")
    return options.train, names


def main() -> None:
    """Check the claims, show progress, and print the table. See `--help`."""
    config, names = parse(sys.argv[1:])
    from byol_bnfree.claims.report import print_report  # --help needs no JAX

    findings = []
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        try:
            for number, name in enumerate(names, start=1):
                began = time.monotonic()
                print(f"[{number}/{len(names)}] {name}: {CLAIMS[name]}", flush=True)
                finding = _check_or_fail(name, config, Path(folder))
                findings.append(finding)
                seconds = time.monotonic() - began
                print(f"      {finding.verdict} ({seconds:.0f} s)", flush=True)
        finally:  # an impossible setting or Ctrl-C keeps what is known
            if findings:
                print_report(findings)
    sys.exit(0 if all(finding.holds for finding in findings) else 1)


def _check_or_fail(name: str, config: TrainConfig, folder: Path) -> "Finding":
    """Check one claim. An error in it is a finding, so the other claims are checked."""
    from byol_bnfree.claims.finding import broken

    try:
        return check(name, config, folder)
    except (InputError, BrokenPipeError):  # wrong settings, or nobody reads the table
        raise
    except Exception as error:
        return broken(CLAIMS[name], error)


def check(name: str, config: TrainConfig, folder: Path) -> "Finding":
    """Check one claim. The claims' processes share files in `folder`."""
    from byol_bnfree.claims import communication, loss, network, training

    def say(text: str) -> None:
        print(f"      {text}", flush=True)

    checks: dict[str, Callable[[], Finding]] = {
        "independence": lambda: network.numerical_claim(config),
        "program": lambda: network.static_claim(config),
        "loss": lambda: loss.loss_claim(config),
        "control": lambda: network.control_claim(config),
        "pieces": lambda: training.pieces_claim(config, folder, say),
        "views": lambda: training.views_claim(config, folder, say),
        "devices": lambda: training.devices_claim(config, folder, say),
        "resume": lambda: training.resume_claim(config, folder, say),
        "communication": lambda: communication.communication_claim(
            "resnet18", folder, say
        ),
        "communication_resnet50": lambda: communication.communication_claim(
            "resnet50", folder, say
        ),
    }
    return checks[name]()


def command() -> None:
    """Run `byol-verify` or `python -m byol_bnfree.verify`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
