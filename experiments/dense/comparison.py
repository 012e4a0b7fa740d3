"""Runs the arms that the results lack, and reports all of them."""

import dataclasses
import json
import time
from typing import Any

from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense.evaluation import dense_evaluation, rate_beyond
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.evaluation.diverged import FitDiverged
from byol_bnfree.files import append_row, expanded, read_rows
from byol_bnfree.machine.user_cache import compiled_programs_kept
from byol_bnfree.training.environment import commit, environment
from experiments.dense.arguments import Arguments
from experiments.dense.arms import TUNED, Arm, arms, settings_of, usual_settings
from experiments.dense.encoders import encoder_of, workdir_of
from experiments.dense.report import print_tables, write_report
from experiments.pages.lock import writing

SCENES = {"train": 768, "test": 128}
SIDE = 64  # of a scene, pixels


def carry_out(arguments: Arguments) -> None:
    """Run the arms that the results lack, and report all of them.

    Raises:
      InputError: if no seed chooses the rates, or no row has these settings; at the
        end, if arms have no result.
    """
    arguments = dataclasses.replace(
        arguments,
        folder=expanded(arguments.folder),
        results=expanded(arguments.results),
    )
    machine = {k: v for k, v in environment().items() if k != "argv"}  # has paths
    now = {"commit": short_commit(), "environment": machine}
    lost = []
    for arm in [] if arguments.report else asked_arms(arguments):
        rows = read_rows(arguments.results)
        rate = chosen_rate(arm, arguments, rows)
        if any(is_of(row, arm, arguments, rate) for row in rows):
            continue
        name = " ".join(map(str, arm))
        if arm.seed != TUNED and rate is None:
            lost.append(f"{name}: no fit of seed {TUNED} has chosen its rate.")
            continue
        settings = settings_of(arm, arguments.pictures, rate)
        stored = asked_settings(arm, arguments, rate)
        asked = {"arm": arm._asdict(), "settings": stored}
        print(name, flush=True)
        try:
            with compiled_programs_kept("auto"):
                row = asked | measure(arm, settings, arguments) | now
        except FitDiverged as error:  # the other arms do not depend on it
            lost.append(f"{name}: {error}")
            print(error, flush=True)
            continue
        append_row(arguments.results, row)
    rows = of_settings(arguments)
    if rows:
        report(rows, arguments)
    if lost:
        raise InputError(f"these arms have no result. {' '.join(lost)}")
    if not rows:
        raise InputError(
            f"{arguments.results} has no row with --epochs={arguments.epochs} and "
            f"--pictures={arguments.pictures}; give those of its rows, or omit "
            f"--report to measure."
        )


def report(rows: list[dict[str, Any]], arguments: Arguments) -> None:
    """Write the tables and the figure, or print the tables.

    README.md has the default results and settings, so others are only printed.
    """
    usual, folder = Arguments(), arguments.results.parent
    settings = (arguments.epochs, arguments.pictures)
    is_usual = settings == (usual.epochs, usual.pictures)
    is_own = arguments.results.resolve() == usual.results.resolve()
    if (is_usual and is_own) or not (folder / "README.md").exists():
        with writing(folder):
            write_report(of_settings(arguments), folder)  # with rows of other commands
    else:
        print_tables(rows)


def asked_arms(arguments: Arguments) -> list[Arm]:
    """Return the arms that were asked for, those of seed 0 first.

    Raises:
      InputError: if no seed chooses the rates.
    """
    found = sorted(
        arms(arguments.seeds, arguments.norms), key=lambda arm: arm.seed != TUNED
    )
    rows = read_rows(arguments.results)
    chosen = any(row["arm"]["seed"] == TUNED for row in rows)
    if not chosen and TUNED not in arguments.seeds:
        seeds = " ".join(map(str, arguments.seeds))
        raise InputError(
            f"--seeds is {seeds}, but seed {TUNED} chooses the rates, and "
            f"{arguments.results} has none of its rows; add {TUNED} to --seeds."
        )
    return found


def chosen_rate(
    arm: Arm,
    arguments: Arguments,
    rows: list[dict[str, Any]],
    any_range: bool = False,
) -> float | None:
    """Return the rate that seed 0 chose for an arm of another seed.

    None for an arm of seed 0, which chooses by itself, and if seed 0 has no row. See
    `is_of` for `any_range`.
    """
    tuned = arm._replace(seed=TUNED)
    if arm == tuned:
        return None
    own = [row for row in rows if is_of(row, tuned, arguments, any_range=any_range)]
    return own[-1]["chosen"]["rate"] if own else None


def asked_settings(
    arm: Arm, arguments: Arguments, rate: float | None = None
) -> dict[str, Any]:
    """Return the settings of an arm as its row stores them."""
    settings = dataclasses.asdict(settings_of(arm, arguments.pictures, rate))
    return json.loads(json.dumps(settings | {"epochs": arguments.epochs}))


def of_settings(arguments: Arguments) -> list[dict[str, Any]]:
    """Return the newest row of each arm with the settings that were asked for.

    They may be of an earlier time, which tried no rates beyond the range.
    """
    rows, newest = read_rows(arguments.results), {}
    for row in rows:
        arm = Arm(**row["arm"])
        rate = chosen_rate(arm, arguments, rows, any_range=True)
        if is_of(row, arm, arguments, rate, any_range=True):
            newest[arm] = row
    return list(newest.values())


def is_of(
    row: dict[str, Any],
    arm: Arm,
    arguments: Arguments,
    rate: float | None = None,
    any_range: bool = False,
) -> bool:
    """Return True if a row is of an arm with the settings that were asked for.

    A row from before a setting existed has the setting's default. Rates beyond the
    range make no difference to a row whose best rate is inside, and with `any_range` to
    no row.
    """
    if row["arm"] != arm._asdict():
        return False
    usual = json.loads(json.dumps(dataclasses.asdict(usual_settings(arm))))
    own, asked = usual | row["settings"], asked_settings(arm, arguments, rate)
    if any_range or rate_beyond(own["rates"], row["chosen"]["rate"]) is None:
        own["further_rates"] = asked["further_rates"]
    return own == asked


def measure(arm: Arm, settings: DenseSettings, arguments: Arguments) -> dict[str, Any]:
    """Choose a rate if several are given, fit and test an arm; return its figures."""
    made = arm.norm, arm.seed, arguments.epochs, arguments.folder
    encoder = encoder_of(arm.encoder, *made)
    windows = Windows((SIDE, SIDE), settings.scales)
    train, test = (
        DenseView(Scenes(split, total, SIDE), windows, arm.seed)
        for split, total in SCENES.items()
    )
    wall, cpu = time.perf_counter(), time.process_time()
    found = dense_evaluation(
        TASKS[arm.task], encoder, train, test, settings, seed=arm.seed
    )
    workdir = workdir_of(*made)
    pretraining, environment_of = (
        json.loads((workdir / name).read_text())
        for name in ("config.json", "environment.json")
    )
    return {
        "encoder_commit": environment_of["commit"],
        "pretraining": pretraining,
        "figures": found.outcome.figures,
        "chosen": found.outcome.chosen,
        "trials": found.outcome.sweep,
        "curve": found.curve,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def short_commit() -> str:
    """Return the commit of the code, with a + if files differ from it."""
    found = commit() or "unknown"
    return f"{found[:7]}+" if found.endswith("-dirty") else found[:7]
