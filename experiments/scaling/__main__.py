"""Estimates a step of ResNet-50 at batch 4096 on 8, 64 and 512 accelerators.

    python -m experiments.scaling [--tflops=400 --link-gb=50 ...]

This prints the tables of docs/scaling.md for a machine that you describe. The file
measured.json holds the needs of compiled programs. `--measure` compiles them anew, in
some minutes on 2 CPU cores.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from byol_bnfree.claims.processes import finish, start
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.flags import cli
from experiments.pages.blocks import table_markdown
from experiments.scaling.estimate import DEVICES, Machine, estimate
from experiments.scaling.tables import tables

MEASURED = Path(__file__).with_name("measured.json")
NORMS = "bn", "gn_ws"
BATCH = 4096


@dataclass(frozen=True)
class Arguments:
    """Estimate a step of ResNet-50 on many devices."""

    machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine()
    measure: bool = False
    """Compile the programs anew first; overwrites measured.json."""


def main(arguments: Arguments) -> None:
    """Print the tables; see `Arguments`.

    Raises:
      InputError: if the state does not fit on a device.
    """
    if arguments.measure:
        MEASURED.write_text(json.dumps(measure(), indent=1) + "\n")
    print(markdown(json.loads(MEASURED.read_text())["norms"], arguments.machine))


def markdown(measured: dict[str, Any], machine: Machine) -> str:
    """All tables."""
    steps = [
        estimate(norm, devices, BATCH, found, machine)
        for devices in DEVICES
        for norm, found in measured.items()
    ]
    return "\n".join(map(table_markdown, tables(measured, steps, machine)))


def measure() -> dict[str, Any]:
    """The needs of each norm's programs, compiled in processes of their own."""
    from byol_bnfree.training.environment import environment  # the tables need no JAX

    norms = {}
    with tempfile.TemporaryDirectory() as folder:

        def said_by(module: str, *arguments: str, devices: int) -> dict[str, Any]:
            print(f"compiling: {module} {' '.join(arguments)}", flush=True)
            process = start(module, *arguments, devices=devices, cache=Path(folder))
            return json.loads(finish(process))

        for norm in NORMS:
            found = said_by("experiments.scaling.measure", f"--norm={norm}", devices=1)
            module = "byol_bnfree.claims.communication"
            moved = said_by(module, "resnet50", norm, "1", devices=8)
            norms[norm] = found | {"communication": moved}
    return {"norms": norms, "environment": environment()}


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
