"""An evaluation from its settings to its tables: `evaluate(config)`."""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import jax

from byol_bnfree.cpu.choice import choose_kernels
from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.data.sources import Source
from byol_bnfree.encoder import (
    Encoder,
    dense_module,
    load_encoder,
)
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.bench import SUPERVISED, Bench
from byol_bnfree.evaluation.checks import check_protocols, check_trainable
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.data_of_weights import with_data
from byol_bnfree.evaluation.dense.opening import (
    cut_off,
    open_dense,
    unused_files,
    whole_view,
)
from byol_bnfree.evaluation.dense.tasks import TASKS
from byol_bnfree.evaluation.features import first_images
from byol_bnfree.evaluation.final import STATISTICS
from byol_bnfree.evaluation.fine_tuned import note_on_lengths
from byol_bnfree.evaluation.images.splits import check_images, open_splits
from byol_bnfree.evaluation.images.subset import whole
from byol_bnfree.evaluation.kept.store import Row, Store
from byol_bnfree.evaluation.protocols import PROTOCOLS, trained_with_labels
from byol_bnfree.evaluation.shown.pictures import save_pictures
from byol_bnfree.evaluation.shown.tables import print_tables
from byol_bnfree.evaluation.without_effect import without_effect
from byol_bnfree.files import expanded, why_no_folder
from byol_bnfree.machine.jax_settings import check_draws, check_precision
from byol_bnfree.models.kernels import Kernels
from byol_bnfree.settings.types import check_kind
from byol_bnfree.training.distributed import say
from byol_bnfree.training.mesh import make_mesh
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.saved_run import unfinished
from byol_bnfree.training.workdir import lock_workdir, prepare_workdir
from byol_bnfree.untrained import untrained_encoder, untrained_like

FILE = "evaluations.jsonl"
IMAGES = "images"  # the data of all protocols that are no dense tasks
LARGE_STATISTICS = 32  # windows of a dense task from which an untrained BatchNorm gets
# its statistics: they are larger than the pictures of the run
Opened = dict[str, tuple[Source, Source]]
"""Training and test split of each kind of data."""
Plan = list[tuple[str, str]]
"""The network and protocol of each measurement."""
Benches = dict[tuple[str, str], Bench]
"""By network and data."""


def _check_writable(workdir: Path) -> None:
    """Raise `InputError` if results cannot be written beside a run, as a colleague's.

    It is called before data are opened. `prepare_workdir` is the final judge.
    """
    why = why_no_folder(workdir / "evaluation")
    if why is not None:
        raise InputError(
            f"results cannot be written to {workdir}: {why}; allow writing, or give "
            f"--weights={workdir} with a --workdir of your own."
        )


def evaluate(config: EvaluateConfig) -> list[Row]:
    """Measure all requested results that are not stored; print a table of all results.

    It runs in one process with all its devices.

    Returns:
      The requested rows, each with `identity`, `figures` (in [0, 1]), `chosen` and
      `seconds`.

    Raises:
      InputError: for another kind of config, if the work folder has no run or no
        checkpoint, or the data cannot be used for evaluation.
    """
    wanted = "an EvaluateConfig, such as EvaluateConfig('runs/mine')"
    check_kind(config, EvaluateConfig, "config", wanted)
    check_precision()
    check_draws()
    plan, workdir = _plan(config), expanded(config.workdir)
    config = dataclasses.replace(config, workdir=str(workdir))
    _note(without_effect(config))
    kernels = choose_kernels("auto", jax.device_count())
    encoder = _loaded(config, kernels)
    _note(unfinished(expanded(config.weights or workdir), encoder.step))
    _check_writable(workdir)
    check_trainable(config, encoder)
    _note(note_on_lengths(config, encoder))
    mesh = make_mesh()
    opened = _open_all(config, encoder, plan)
    train, _ = _of_all(opened)
    if train.num_classes is None:
        say(f"{train.name} has no classes, so only pictures are drawn.")
        plan = []
    protocols = {protocol for _, protocol in plan}
    check_protocols(config, protocols, encoder.config, train, mesh.shape["data"])
    folder = prepare_workdir(workdir / "evaluation", "")
    with lock_workdir(folder), contextlib.ExitStack() as closing_all:
        for source in itertools.chain(*opened.values()):
            closing_all.callback(source.close)
        store = Store(workdir / FILE)
        place = mesh, store, folder, say
        own = {  # protocols on the same data share a bench, which keeps features
            data: Bench(config, encoder, config.network, *splits, *place)
            for data, splits in opened.items()
        }
        rows = _measured(_benches(own, plan, kernels), plan)
        drawn = config.plot and IMAGES in own
        files = save_pictures(own[IMAGES], workdir) if drawn else []
    if plan:
        # Where two results share a cell, the one that was asked for is shown.
        print_tables([row for row in store.figures() if row not in rows] + rows)
        files.append(workdir / FILE)
    for path in files:
        say(str(path))
    return rows


def _note(note: str | None) -> None:
    if note is not None:
        say(f"note: {note}")


def _loaded(config: EvaluateConfig, kernels: Kernels) -> Encoder:
    """Return the encoder of the run or of --weights. Its settings name the data."""
    weights = config.weights or config.workdir
    encoder = load_encoder(
        weights, config.network, kernels=kernels, **vars(config.facts)
    )
    return encoder if config.weights is None else with_data(encoder, config, say)


def _benches(own: dict[str, Bench], plan: Plan, kernels: Kernels) -> Benches:
    """Return the benches of the encoder, and of the floor if it is in the plan."""
    benches = {(bench.network, data): bench for data, bench in own.items()}
    if "random" in (network for network, _ in plan):
        for data, bench in own.items():
            benches["random", data] = _floor(bench, kernels)
    return benches


def _floor(bench: Bench, kernels: Kernels) -> Bench:
    """Return a bench of the untrained network on the same data.

    Its BatchNorm has the statistics of `train` without its limit, so neither other
    protocols nor --max-train change the floor.
    """
    train = bench.train
    dense = isinstance(train, DenseView)
    images = first_images(
        whole_view(train) if dense else whole(train),
        LARGE_STATISTICS if dense else STATISTICS,
    )
    floor = _untrained(bench.config, bench.encoder, train, images, kernels)
    # One module object lets both encoders share compiled programs.
    floor = dataclasses.replace(floor, module=bench.encoder.module)
    return dataclasses.replace(bench, encoder=floor, network="random")


def _measured(benches: Benches, plan: Plan) -> list[Row]:
    rows = []
    for network, protocol in plan:
        place = network, _data_of(protocol)
        if place not in benches:
            benches[place] = _labelled(benches, place[1])
        rows += PROTOCOLS[protocol](benches[place])
    return rows


def _labelled(benches: Benches, data: str) -> Bench:
    """Return a bench of the network that protocol `supervised` has trained."""
    encoder = trained_with_labels(benches["random", IMAGES])
    floor = benches["random", data]
    return dataclasses.replace(floor, encoder=encoder, network=SUPERVISED)


def _of_all(opened: Opened) -> tuple[Source, Source]:
    """Return the splits that most protocols use, or those of the first dense task."""
    return opened.get(IMAGES, next(iter(opened.values())))


def _data_of(protocol: str) -> str:
    """Name the data of a protocol: a dense task has its own, all others share one."""
    return protocol if protocol in TASKS else IMAGES


def _open_all(config: EvaluateConfig, encoder: Encoder, plan: Plan) -> Opened:
    """Open the splits of all protocols of a plan, before the first one begins."""
    opened: Opened = {}
    for name in dict.fromkeys(_data_of(protocol) for _, protocol in plan):
        if name == IMAGES:
            opened[name] = open_splits(encoder.config, config)
            check_images(encoder, opened[name][0])
        else:
            task, settings = TASKS[name], getattr(config, name)
            dense_module(encoder.module, settings.stride)  # finds impossible strides
            opened[name] = open_dense(task, settings, encoder.config, config)
            left_out = cut_off(task, opened[name][1])
            for note in unused_files(opened[name]) + left_out:
                _note(note)
    return opened


def _untrained(
    config: EvaluateConfig, encoder: Encoder, train: Source, images, kernels: Kernels
) -> Encoder:
    if config.weights is None:
        return untrained_encoder(config.workdir, images, kernels=kernels)
    data = DataShape(len(train), train.num_classes, train.image_shape)
    return untrained_like(encoder.config, data, images, kernels=kernels)


def _plan(config: EvaluateConfig) -> Plan:
    """List the network and protocol of each measurement, in the order of `PROTOCOLS`.

    `random` is an encoder and not a protocol: it repeats the other protocols.
    `supervised` starts from the untrained network only. The network that it trains is
    the ceiling of dense tasks.
    """
    named = [name for name in PROTOCOLS if name in config.protocol]
    if not named:
        raise InputError(
            "protocol random repeats other protocols on the untrained encoder; name "
            "one of them too, such as --protocol knn random."
        )
    pretrained = [name for name in named if name != SUPERVISED]
    plan = [(config.network, name) for name in pretrained]
    plan += [("random", name) for name in pretrained if "random" in config.protocol]
    if SUPERVISED in named:
        plan.append(("random", SUPERVISED))
        plan += [(SUPERVISED, name) for name in named if name in TASKS]
    return plan
