"""Runs the arms that the results lack, and reports all of them."""

import dataclasses
import json
import subprocess
import time
from typing import Any

from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.data.dense.view import DenseView, Windows
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.dense.evaluation import dense_evaluation
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.evaluation.diverged import FitDiverged
from byol_bnfree.files import append_row, expanded, read_rows
from byol_bnfree.training.environment import environment
from byol_bnfree.user_cache import compiled_programs_kept
from experiments.dense.arguments import Arguments
from experiments.dense.arms import Arm, arms, settings_of, usual_settings
from experiments.dense.encoders import encoder_of, workdir_of
from experiments.dense.report import write_report

SCENES = {"train": 768, "test": 128}
SIDE = 64  # of a scene, pixels


def carry_out(arguments: Arguments) -> None:
    """Run the arms that the results lack, and report all of them.

    Raises:
      InputError: at the end, if fits diverged. It names their arms.
    """
    arguments = dataclasses.replace(
        arguments,
        folder=expanded(arguments.folder),
        results=expanded(arguments.results),
    )
    machine = {k: v for k, v in environment().items() if k != "argv"}  # has paths
    now = {"commit": commit(), "environment": machine}
    lost = []
    for arm in () if arguments.report else arms(arguments.seeds, arguments.norms):
        settings = settings_of(arm, arguments.pictures)
        asked = {"arm": arm._asdict(), "settings": asked_settings(arm, arguments)}
        if any(is_of(row, arm, arguments) for row in read_rows(arguments.results)):
            continue
        print(" ".join(map(str, arm)), flush=True)
        try:
            with compiled_programs_kept("auto"):
                row = asked | measure(arm, settings, arguments) | now
        except FitDiverged as error:  # the other arms do not depend on it
            lost.append(f"{' '.join(map(str, arm))}: {error}")
            print(error, flush=True)
            continue
        append_row(arguments.results, row)
    write_report(of_settings(arguments), arguments.results.parent)
    if lost:
        raise InputError(f"these arms have no result. {' '.join(lost)}")


def asked_settings(arm: Arm, arguments: Arguments) -> dict[str, Any]:
    """Return the settings of an arm as its row stores them."""
    settings = dataclasses.asdict(settings_of(arm, arguments.pictures))
    return json.loads(json.dumps(settings | {"epochs": arguments.epochs}))


def of_settings(arguments: Arguments) -> list[dict[str, Any]]:
    """Return the newest row of each arm with the settings that were asked for."""
    newest = {}
    for row in read_rows(arguments.results):
        arm = Arm(**row["arm"])
        if is_of(row, arm, arguments):
            newest[arm] = row
    return list(newest.values())


def is_of(row: dict[str, Any], arm: Arm, arguments: Arguments) -> bool:
    """Return True if a row is of an arm with the settings that were asked for.

    A row from before a setting existed has the setting's default.
    """
    usual = json.loads(json.dumps(dataclasses.asdict(usual_settings(arm))))
    asked = asked_settings(arm, arguments)
    return row["arm"] == arm._asdict() and usual | row["settings"] == asked


def measure(arm: Arm, settings: DenseSettings, arguments: Arguments) -> dict[str, Any]:
    """Choose a rate, fit and test an arm; return figures and seconds of all three."""
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
    environment_of = workdir_of(*made) / "environment.json"
    return {
        "encoder_commit": json.loads(environment_of.read_text())["commit"],
        "figures": found.outcome.figures,
        "chosen": found.outcome.chosen,
        "trials": found.outcome.sweep,
        "curve": found.curve,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def commit() -> str:
    """Return the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
