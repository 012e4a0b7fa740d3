"""The lines that a run prints at its start and end, and its summary.json."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from byol_bnfree.assembly import encoder_name, part_norms
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import Source
from byol_bnfree.data.view_settings import small_side
from byol_bnfree.evaluation.final import Evaluator
from byol_bnfree.precision import resolve_dtype
from byol_bnfree.settings.objective_checks import uses_predictor, uses_target_network
from byol_bnfree.training import distributed
from byol_bnfree.training.environment import peak_memory
from byol_bnfree.training.extension import describe
from byol_bnfree.training.journal import MUCH_WAITING, Journal
from byol_bnfree.training.mesh import left_whole
from byol_bnfree.training.program import Program
from byol_bnfree.training.schedules import peak_learning_rate
from byol_bnfree.training.state import TrainState, parameter_count

NAMED = 4
"""Number of arrays named in a line. environment.json names all of them."""


def objective_words(config: TrainConfig) -> str:
    """The objective with its settings, and the parts of the network without use."""
    own = getattr(config, config.objective, None)
    details = [f"{k} {v}" for k, v in vars(own).items()] if own else []
    used = {
        "predictor": uses_predictor(config),
        "target network": uses_target_network(config),
    }
    details += [
        f"the {part} is not used" for part, is_used in used.items() if not is_used
    ]
    return f"{config.objective}: {', '.join(details)}" if details else config.objective


def introduce(
    program: Program,
    train: Source,
    test: Source | None,
    workdir: Path,
    why: str,
    say: Callable[[str], None],
) -> None:
    """Describe the run in a few lines, before the first step compiles.

    `why` is the reason for the size of the images, as in dataset.json.
    """
    config, optim = program.config, program.config.optim
    # In a folder without splits both sources list the same files.
    skipped = len({*train.skipped, *(test.skipped if test else ())})
    parameters = parameter_count(program.abstract_state.online_params)
    say(f"run        {workdir}")
    say(
        f"data       {train.name}: {len(train)} images of "
        f"{'x'.join(map(str, train.image_shape))}"
        + (f", {skipped} bad ones skipped" if skipped else "")
    )
    say(f"size       {why}")
    say(
        f"network    {encoder_name(config)}"
        + (f" width {config.model.width:g}, " if config.encoder is None else ", ")
        + ", ".join(f"{part} {norm}" for part, norm in part_norms(config).items())
        + f"; {parameters / 1e6:.2f} M parameters"
    )
    if config.objective != "byol":
        say(f"objective  {objective_words(config)}")
    say(
        f"optimizer  {optim.name}, learning rate {config.base_lr:g} x "
        f"{config.batch_size} / 256 = {peak_learning_rate(config):g}, "
        f"{program.warmup_steps} of {program.total_steps} steps of warm-up, "
        f"tau {optim.tau_base:g}{' to 1' if optim.tau_schedule == 'cosine' else ''}"
    )
    if not config.views.plain:
        say(f"views      {_views(config, train.image_shape)}")
    if config.extensions:
        say(f"extension  {describe(config, len(train))}")
    say(
        f"devices    {program.mesh.size} {jax.devices()[0].platform} in "
        f"{program.processes} process{'es' * (program.processes > 1)}; "
        f"layers in {resolve_dtype(config.compute_dtype)} by {program.kernels}"
    )
    if config.shard_state:
        _say_what_stays_whole(program, say)


def _views(config: TrainConfig, image_shape: tuple[int, ...]) -> str:
    """The views of an image in words."""
    views, (height, width, _) = config.views, image_shape
    text = f"{views.count} large ones of {height}x{width}"
    if views.small:
        sides = "x".join(str(small_side(side, views)) for side in (height, width))
        text += f", {views.small} small ones of {sides} ({views.small_predictor} "
        text += "predictor)"
    aim = "the mean of the others" if views.targets == "mean" else "each of the others"
    passed = ", passed one at a time" if views.accumulate else ""
    return f"{text}; each predicts {aim}{passed}"


def _say_what_stays_whole(program: Program, say: Callable[[str], None]) -> None:
    whole = left_whole(program.abstract_state, program.mesh)
    if not whole:
        return
    leaves = jax.tree.leaves(program.abstract_state)
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    largest = sorted(whole, key=whole.get, reverse=True)[:NAMED]
    more = f" and {len(whole) - NAMED} more" if len(whole) > NAMED else ""
    say(
        f"state      {len(whole)} of {len(leaves)} arrays "
        f"({sum(whole.values()) / 1e6:,.1f} of {total / 1e6:,.1f} MB) stay whole on "
        f"every device, because {program.mesh.shape['data']} divides no axis of them: "
        f"{', '.join(largest)}{more}"
    )


def summarize(
    program: Program,
    evaluator: Evaluator,
    state: TrainState,
    journal: Journal,
    batches: Batches,
) -> dict[str, Any]:
    """Return the content of summary.json. This evaluates, unless it is skipped."""
    config, watch = program.config, journal.judge.watch
    rows = [row for row in journal.log.rows() if "perf/seconds" in row]
    seconds = sum(row["perf/seconds"] for row in rows)
    nothing = {"untrained": None, "trained": None}
    summary = {
        "norm": config.norm,
        "norms": part_norms(config),
        "seed": config.seed,
        "steps": int(state.step),
        "knn": dict(nothing),
        "linear": dict(nothing),
        "chance": evaluator.chance,
        "collapse": {
            "verdict": watch.verdict.state,
            "reason": watch.verdict.reason,
            "first_drifting": watch.first_drifting,
            "first_collapsed": watch.first_collapsed,
        },
        "images_per_s": _rate(rows),
        "data_wait": _data_wait(rows),
        "seconds": seconds,
        "peak_gib": peak_memory(),
    }
    if config.evaluation.skip or not evaluator.possible:
        return summary
    began = time.perf_counter()
    if distributed.is_primary():
        what = "trained and untrained encoder"
        print(f"evaluating on the test split, {what}", flush=True)
    for name, chosen in (
        ("trained", state),
        ("untrained", evaluator.untrained(batches(0))),
    ):
        features = evaluator.features(chosen)
        summary["knn"][name] = evaluator.knn(chosen, features)
        summary["linear"][name] = evaluator.linear(features)
    return summary | {"evaluation_seconds": time.perf_counter() - began}


def _rate(rows: list[dict[str, Any]]) -> float | None:
    """Return images per second without the first step of each process; None if there
    was no other step."""
    steady = [
        (row["perf/seconds"] - row.get("perf/first_step_seconds", 0), rate)
        for row in rows
        if (rate := row["perf/images_per_s"]) is not None
    ]
    seconds = sum(seconds for seconds, _ in steady)
    return (
        sum(seconds * rate for seconds, rate in steady) / seconds if seconds else None
    )


def _data_wait(rows: list[dict[str, Any]]) -> float | None:
    """Return the share of time in which steps waited for pictures. The first row is
    left out, because its steps compiled."""
    later = [row for row in rows if "perf/first_step_seconds" not in row]
    seconds = sum(row["perf/seconds"] for row in later)
    waited = sum(row["perf/seconds"] * row["perf/data_wait"] for row in later)
    return waited / seconds if seconds else None


def conclude(summary: dict[str, Any], workdir: Path) -> None:
    """Print the results, and the paths of all files."""
    if summary["knn"]["trained"] is not None:
        print("test accuracy   untrained   trained   chance")
        for name, title in (("knn", "kNN"), ("linear", "linear")):
            figures = summary[name]
            print(
                f"{title:<14}{100 * figures['untrained']:>9.1f} %"
                f"{100 * figures['trained']:>8.1f} %"
                f"{100 * summary['chance']:>7.1f} %"
            )
    collapse = summary["collapse"]
    reason = f": {collapse['reason']}" if collapse["verdict"] != "healthy" else ""
    print(f"collapse        {collapse['verdict']}{reason}")
    if summary["images_per_s"] is not None:
        waited = summary.get("data_wait") or 0  # earlier versions did not measure it
        share = f", {100 * waited:.0f} % of the time waiting for pictures"
        print(
            f"training        {summary['images_per_s']:.0f} images/s"
            f"{share if waited >= MUCH_WAITING else ''}"
        )
    print(f"work folder     {workdir}")
    print(
        "                summary.json metrics.jsonl curves.png views.png checkpoints/"
    )
