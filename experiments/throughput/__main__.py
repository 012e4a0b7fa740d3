"""Images per second of the training step, of a peer, and the machine's limit.

    python -m experiments.throughput --peer "PYTHON PEER.py"

PEER.py is a program of yours; none is shipped. In turn, `rounds` times, each in a
process of its own: our step with each norm, and the peer's command with `--workload
NAME`, whose last line of output must be JSON with "images_per_s". Prints medians and
ratios, appends them to results.jsonl and draws throughput.png. About two minutes a
workload and round on 2 CPU cores; leave the machine otherwise idle.

    python -m experiments.throughput --device gpu --peer "python3 PEER.py"

measures an accelerator instead: see `device`.
"""

import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.errors import InputError
from byol_bnfree.files import append_row, last_json
from byol_bnfree.flags import cli
from experiments.measuring import check_arguments, check_folder
from experiments.throughput.device import Plan, measure_device
from experiments.throughput.workloads import NORMS, WORKLOADS

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arguments:
    """Time the training step of each norm, and of a peer program."""

    workload: tuple[str, ...] = ()
    """Keys of WORKLOADS, with --device of those in `device`. Empty: all."""
    peer: str | None = None
    """Command that takes --workload NAME and prints JSON with images_per_s."""
    convolution: Literal["auto", "xla", "onednn"] = "auto"
    """As --run.convolution."""
    rounds: int | None = None
    """Rounds; medians are reported. None: three. A device is measured once."""
    seconds: float | None = None
    """Length of each timing of ours. None: 15, on a device 4, and 1 with --tiny."""
    device: Literal["gpu", "cpu"] | None = None
    """Measure the workloads of accelerators on this device. The peer then takes
    NETWORK,SIDE,BATCH,SMALL_STEM,COMPILE. None: the workloads of CPUs."""
    tiny: bool = False
    """With --device: a small network, to test that everything runs."""
    budget: float = 600.0
    """With --device: seconds for all measurements together."""
    cap: float = 180.0
    """With --device: most seconds of one measurement."""
    out: Path | None = None
    """With --device: folder of device.jsonl. None: this program's own."""
    finished: Path | None = None
    """With --device: a device.jsonl of an earlier call. What succeeded there is shown
    and not measured again."""

    def __post_init__(self):
        # A script whose time is used up gives a budget below 0.
        check_arguments(self, of_any_sign=("budget",))


def main(arguments: Arguments) -> None:
    """Measure in turn, print a table, append to results.jsonl, draw.

    Raises:
      InputError: for an unknown workload, or flags that do not go together.
    """
    if arguments.device is not None:
        _measure_device(arguments)
        return
    for name in ("tiny", "budget", "cap", "out", "finished"):
        if getattr(arguments, name) != getattr(Arguments, name):
            raise InputError(f"--{name} is for devices; omit it, or give --device.")
    for name in arguments.workload:
        if name not in WORKLOADS:
            raise InputError(
                f"--workload is {name!r}; choose of {', '.join(WORKLOADS)}."
            )
    _measure_cpu(arguments)


def _measure_device(arguments: Arguments) -> None:
    if arguments.rounds is not None or arguments.convolution != "auto":
        raise InputError(
            "--rounds and --convolution are for CPUs; omit them with --device."
        )
    out = arguments.out or HERE
    check_folder("out", out)
    measure_device(
        Plan(
            platform=arguments.device,
            peer=arguments.peer,
            tiny=arguments.tiny,
            seconds=_seconds(arguments),
            budget=arguments.budget,
            cap=arguments.cap,
            workloads=arguments.workload,
            out=out,
            finished=arguments.finished,
        )
    )


def _seconds(arguments: Arguments) -> float:
    """Return the length of a timing: what was given, else what suits the machine."""
    if arguments.seconds is not None:
        return arguments.seconds
    if arguments.device is None:
        return 15.0
    return 1.0 if arguments.tiny else 4.0


def _measure_cpu(arguments: Arguments) -> None:
    rows = []
    count = 3 if arguments.rounds is None else arguments.rounds
    for name in arguments.workload or WORKLOADS:
        rounds: dict[str, list] = {arm: [] for arm in (*NORMS, "peer")}
        for index in range(count):
            print(f"{name}, round {index + 1} of {count}", flush=True)
            for norm in NORMS:
                rounds[norm].append(_ours(name, norm, arguments))
            if arguments.peer and WORKLOADS[name].peer:
                command = [*shlex.split(arguments.peer), "--workload", name]
                rounds["peer"].append(_answer(command))
        rows.append(_row(name, rounds))
        append_row(HERE / "results.jsonl", rows[-1])
    from experiments.throughput.figure import save_figure  # Matplotlib takes a second

    console = Console()
    console.width = max(console.width, 100)
    console.print(_table(rows))
    save_figure(HERE / "throughput.png", rows)


def _ours(name: str, norm: str, arguments: Arguments) -> dict[str, Any]:
    module = [sys.executable, "-m", "experiments.throughput.measure"]
    options = {
        "workload": name,
        "norm": norm,
        "convolution": arguments.convolution,
        "seconds": _seconds(arguments),
    }
    return _answer([*module, *(f"--{k}={v}" for k, v in options.items())])


def _answer(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return last_json(done.stdout)


def _row(name: str, rounds: dict[str, list[dict]]) -> dict[str, Any]:
    """Medians over the rounds, and everything that they are of."""
    from byol_bnfree.training.environment import environment  # --help needs no JAX

    medians = {
        arm: {
            key: statistics.median(result[key] for result in results)
            for key, value in results[0].items()
            if isinstance(value, int | float)
        }
        for arm, results in rounds.items()
        if results
    }
    peer = medians.get("peer")
    if peer is not None:
        for norm in NORMS:
            ratio = medians[norm]["images_per_s"] / peer["images_per_s"]
            medians[norm]["of_peer"] = ratio
    return {
        "workload": name,
        "medians": medians,
        "rounds": rounds,
        "environment": environment(),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="one training step; medians")
    table.add_column("workload")
    table.add_column("arm")
    for head in (
        "images/s",
        "x peer",
        "of limit",
        "with data",
        "compile s",
        "temporaries GiB",
        "peak GiB",
    ):
        table.add_column(head, justify="right")
    for row in rows:
        for arm, m in row["medians"].items():
            cells = [
                f"{m['images_per_s']:.1f}",
                f"{m['of_peer']:.2f}" if "of_peer" in m else "",
            ]
            if arm != "peer":
                cells += [
                    f"{100 * m['part_of_limit']:.0f} %",
                    f"{m['augmented_images_per_s']:.1f}",
                    f"{m['compile_seconds']:.0f}",
                    f"{m['temporaries_gib']:.2f}",
                    f"{m['peak_gib']:.1f}",
                ]
            table.add_row(row["workload"], arm, *cells)
    return table


if __name__ == "__main__":
    exit_on_error(lambda: main(cli(Arguments)))
