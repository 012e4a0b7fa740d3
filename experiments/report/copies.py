"""Arms that other experiments have run: the command copies their rows."""

from pathlib import Path

from experiments.grid import Experiment, arm_settings
from experiments.places import equal_rows
from experiments.scales import Scale


def copies(experiment: Experiment, scale: Scale, results: Path) -> str:
    """Name the arms without a row here that have equal rows in other experiments.

    Empty if there is none. Such a run counts as finished: see `places`.
    """
    settings = arm_settings(experiment, scale)
    copied, stopped = [], []
    for arm, checksum in settings.items():
        rows = list(equal_rows(results, scale.name, checksum, first=experiment.name))
        names = {(row["experiment"], row["arm"]) for row in rows}
        if not rows or (experiment.name, arm) in names:
            continue
        copied.append(arm)
        if all(row.get("collapsed") for row in rows):
            stopped.append(arm)
    if not copied:
        return ""
    have = "has" if len(copied) == 1 else "have"
    only = f" ({', '.join(stopped)} only with `--stop-collapsed`)" if stopped else ""
    return (
        f"{len(copied)} of the {len(settings)} arms {have} equal rows in other "
        f"experiments: {', '.join(copied)}. The command copies them{only}."
    )
