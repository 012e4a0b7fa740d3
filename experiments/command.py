"""Carries out `python -m experiments`: plans, runs, reports."""

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from byol_bnfree.assembly import create_network
from byol_bnfree.data.prepared import data_root, find_set
from byol_bnfree.errors import InputError, RunStopped, flag
from byol_bnfree.files import expanded
from byol_bnfree.own_code import full_path, load_function
from byol_bnfree.own_encoder import check_encoder
from experiments.arguments import Arguments
from experiments.choice import chosen_names, chosen_runs, shared, skipped
from experiments.grid import Experiment, Run, load_experiment
from experiments.measuring import check_folder, check_seeds
from experiments.paper_scale import compile_all
from experiments.parsing import parsed
from experiments.places import Places
from experiments.plan import expectation, print_plan
from experiments.queue import run_queue
from experiments.report.state import write_state
from experiments.report.write import write_all, write_report
from experiments.scales import Scale, scales_of
from experiments.slots import slots

ROOT = Path(__file__).parents[1]
SIDE = 32  # pixels of CIFAR-10, and of the shapes


def carry_out(arguments: Arguments) -> None:
    """Plan, run and report. Raise `InputError` before any run for wrong arguments."""
    if arguments.names in (("report",), ("state",)):
        _refuse_run_settings(arguments)
        check_seeds(arguments.seeds)
    places = _places(arguments)
    scales = scales_of(_model(arguments.model))
    os.chdir(ROOT)  # recipes have paths relative to it
    scale = scales[arguments.scale]
    if arguments.names in (("report",), ("state",)):
        (page,) = arguments.names
        if page == "report" and not places.results.is_dir():
            raise InputError(
                f"--results is {places.results}, and there is no such folder; give one "
                f"with NAME/results.jsonl, or run an experiment first."
            )
        print(
            write_all(places.results, scales=scales)
            if page == "report"
            else write_state(scale, arguments.seeds, places)
        )
        return
    named = [load_experiment(name) for name in chosen_names(arguments.names)]
    grids = chosen_runs(named, scale, arguments)
    experiments = [e for e in named if e.name in grids]
    runs = shared(list(chain.from_iterable(grids.values())), arguments.shard)
    if arguments.model is not None:
        _check_model(runs[0])
    if scale.name != "paper" and not arguments.dry_run:
        _check_data(runs, arguments.data_dir)
    for experiment in experiments:
        own = [run for run in runs if run.experiment == experiment.name]
        print_plan(experiment, scale, own, places)
    if said := skipped(named, grids, arguments):
        print(said)
    if arguments.dry_run:
        return
    if scale.name == "paper":
        compile_all(runs)
        return
    _run(experiments, scales, runs, places, arguments)


def _run(
    experiments: Sequence[Experiment],
    scales: Mapping[str, Scale],
    runs: list[Run],
    places: Places,
    arguments: Arguments,
) -> None:
    """Run the queue, then write each report. Raise `RunStopped` if runs failed."""
    scale, places_to_run = scales[arguments.scale], slots(arguments.each)
    done = run_queue(
        runs,
        places,
        places_to_run,
        expectation(scale, places, places_to_run[0]),
    )
    finished = sum(places.state(run) == "finished" for run in runs)
    print(f"{finished} of {len(runs)} runs are finished.")
    for experiment in experiments:
        # The results may have runs of other scales, which the report keeps.
        if write_report(experiment, places.results, scales).compared:
            print(places.results / experiment.name / "report.html")
    print(write_state(scale, arguments.seeds, places))
    if done.elsewhere:
        print(f"{len(done.elsewhere)} runs are left to another command.")
    if done.failures:
        names = ", ".join(
            f"{f.run.experiment} {f.run.arm} seed {f.run.seed}" for f in done.failures
        )
        raise RunStopped(f"{len(done.failures)} failed: {names}; see above.")


def _places(arguments: Arguments) -> Places:
    """Return absolute paths, because the working directory changes later.

    Raises:
      InputError: if files are in their places, or they cannot be written to.
    """
    out = expanded(arguments.out).absolute()
    installed = not (ROOT / "pyproject.toml").exists()
    own = arguments.scale == "smoke" or installed or arguments.model is not None
    results = arguments.results or (out if own else ROOT / "experiments")
    results = expanded(results).absolute()
    check_folder("out", out)
    check_folder("results", results)
    data_dir = arguments.data_dir and str(expanded(arguments.data_dir).absolute())
    return Places(out, results, data_dir, arguments.stop_collapsed)


def _refuse_run_settings(arguments: Arguments) -> None:
    """Raise `InputError` for settings of runs, beside a name of pages about all."""
    (page,) = arguments.names
    usual = Arguments(arguments.names)
    of_runs = ["arms", "only", "rows", "each", "shard", "dry_run"]
    if page == "report":  # of all scales and seeds
        of_runs += ["scale", "seeds", "stop_collapsed"]
    given = [
        flag(name)
        for name in of_runs
        if getattr(arguments, name) != getattr(usual, name)
    ]
    if given:
        raise InputError(
            f"{page} writes pages and runs nothing, so {' and '.join(given)} cannot "
            f"be given with it; remove them, or name experiments."
        )


def _model(where: str | None) -> str | None:
    """Return `FILE:FUNCTION` with an absolute path.

    Raises:
      InputError: if there is no such function.
    """
    if where is None:
        return None
    load_function(where, "model")
    return full_path(where)


def _check_model(run: Run) -> None:
    """Raise `InputError` if a run cannot use its encoder. Every run would fail later.

    Nothing is computed.
    """
    config = parsed(run.flags)
    side = config.data.image_size or SIDE
    check_encoder(create_network(config, 10).encoder, (side, side, 3), config.encoder)


def _check_data(runs: list[Run], data_dir: str | None) -> None:
    """Report a missing data set once, instead of in every run."""
    for dataset in {parsed(run.flags).dataset for run in runs} - {"shapes"}:
        find_set(dataset, data_root(data_dir))
