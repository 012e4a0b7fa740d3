"""One evaluation from configuration to table: `evaluate(config)`."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from byol_bnfree.config import TrainConfig
from byol_bnfree.data.sources import Source, open_source
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.bench import Bench, check_images, check_labels
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.protocols import PROTOCOLS
from byol_bnfree.evaluation.store import Row, Store
from byol_bnfree.evaluation.subset import limited
from byol_bnfree.evaluation.table import print_table
from byol_bnfree.models.conv import choose_convolution
from byol_bnfree.pretrained import Encoder, load_encoder, read_run, untrained_encoder
from byol_bnfree.training.mesh import make_mesh
from byol_bnfree.training.workdir import lock_workdir, prepare_workdir

STATISTICS = 256  # images that give an untrained BatchNorm encoder its statistics


def evaluate(config: EvaluateConfig) -> list[Row]:
    """Measure what is asked for and not yet known; print a table of all figures.

    One process, all its devices. Returns the rows asked for, each with `identity`,
    `figures` (fractions), `chosen` and `seconds`.

    Raises:
      InputError: no run or no checkpoint in the work folder, or data that cannot be
        evaluated on.
    """
    workdir = Path(config.workdir)
    run, _ = read_run(workdir)
    convolution = choose_convolution("auto", jax.device_count()).convolution
    encoder = load_encoder(workdir, config.network, convolution=convolution)
    train, test = open_splits(run, config)
    check_labels(train, test)
    check_images(encoder, train)
    folder = prepare_workdir(workdir / "evaluation", "")
    with lock_workdir(folder):
        store = Store(workdir / "evaluations.jsonl")
        mesh = make_mesh()

        def bench(encoder: Encoder, network: str) -> Bench:
            return Bench(
                config, encoder, network, train, test, mesh, store, folder, _say
            )

        benches = [bench(encoder, config.network)]
        if "random" in config.protocol:
            some = train.images(np.arange(min(STATISTICS, len(train))))
            floor = untrained_encoder(workdir, some, convolution=convolution)
            benches.append(bench(floor, "random"))
        rows = [PROTOCOLS[p](b) for b in benches for p in _measured(config)]
    print_table(store.figures())
    _say(str(workdir / "evaluations.jsonl"))
    return rows


def _measured(config: EvaluateConfig) -> list[str]:
    """The protocols asked for, once each; `random` is an encoder, not a measure."""
    names = [name for name in dict.fromkeys(config.protocol) if name != "random"]
    if not names:
        raise InputError(
            "protocol random is the untrained encoder beside other protocols; name "
            "one of them too, such as --protocol knn random."
        )
    return names


def open_splits(run: TrainConfig, config: EvaluateConfig) -> tuple[Source, Source]:
    """Both splits as the encoder sees them: at the run's image size and channels."""
    other = config.dataset not in (None, run.dataset)
    splits: dict[str, Any] = {} if not other else {"train_split": "train"}
    if other:
        splits["test_split"] = "test"
    for name in ("train_split", "test_split"):
        if getattr(config, name) is not None:
            splits[name] = getattr(config, name)
    run = dataclasses.replace(
        run,
        dataset=config.dataset or run.dataset,
        data_dir=config.data_dir or run.data_dir,
        seed=config.seed,
        data=dataclasses.replace(run.data, **splits),
    )
    return (
        limited(open_source(run, "train"), config.max_train, config.seed),
        limited(open_source(run, "test"), config.max_test, config.seed),
    )


def _say(text: str) -> None:
    print(text, flush=True)
