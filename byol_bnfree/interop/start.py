"""`--init-from`: pre-training that starts from other weights.

The weights are read before any work starts. The optimizer and all schedules start anew.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byol_bnfree.assembly import create_network
from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded
from byol_bnfree.interop.trees import Flat, flat, nested
from byol_bnfree.interop.weights import find, holds_weights, read_weights
from byol_bnfree.settings.norms import part_norms
from byol_bnfree.training.items import fields_of, items_of
from byol_bnfree.training.restore import load_items
from byol_bnfree.training.saved_run import read_run
from byol_bnfree.training.state import TrainState

GROUPS, KERNELS = ("groups", "min_group_channels"), ("standardize_conv", "unit_kernels")
MEANING: dict[str, tuple[str, ...]] = {"gn": GROUPS, "ws": KERNELS}
MEANING["gn_ws"] = GROUPS + KERNELS
"""By norm, settings of the encoder that change no shape of an array."""
FIELDS = ("online_params", "online_stats", "target_params", "target_stats")


class Start(NamedTuple):
    """Initial arrays, by the fields of a `TrainState` and flat names."""

    leaves: dict[str, Flat]
    lines: tuple[str, ...]
    """Lines that list the arrays taken, left as initialized, and not fitting."""

    def put_into(self, state: TrainState) -> TrainState:
        """Return the state with these arrays instead of its own."""

        def field(name: str) -> Any:
            """Return a field of the state with the arrays taken for it."""
            found = flat(getattr(state, name))
            taken = self.leaves.get(name, {})
            return nested(
                {
                    key: jax.device_put(np.array(taken[key]), leaf.sharding)
                    if key in taken
                    else leaf
                    for key, leaf in found.items()
                }
            )

        return state.replace(**{name: field(name) for name in FIELDS})


def read_start(config: TrainConfig, abstract_state: TrainState) -> Start:
    """Read the arrays that `config.init_from` gives to a run with these shapes.

    Args:
      config: init_from is a work folder or any file of weights. init_from_part chooses
        the whole network or only the encoder.
      abstract_state: shapes of the run's own state.

    Raises:
      InputError: if nothing fits, or the weights have another norm and
        --init-from-other-norm was not given.
    """
    path = expanded(config.init_from or "")
    saved, step, found = _read(path)
    norms = _norms_in(saved, found)
    if config.init_from_part == "encoder":
        found = {name: _encoder_only(tree) for name, tree in found.items()}
    _check_norms(config, norms, path)
    wanted = {name: flat(getattr(abstract_state, name)) for name in FIELDS}
    if not found.get("target_params"):  # its target begins as the online network
        for kind in ("params", "stats"):
            found[f"target_{kind}"] = found.get(f"online_{kind}", {})
    leaves = {
        name: {
            key: value
            for key, value in found.get(name, {}).items()
            if key in wanted[name] and value.shape == wanted[name][key].shape
        }
        for name in FIELDS
    }
    if not _encoder_only(leaves["online_params"]):
        raise InputError(
            f"no encoder array in {path} fits this network; use the --model settings "
            f"that it was trained with."
        )
    lines = (
        f"starting from {path} (step {step:,}), with a new optimizer",
        *_report(found["online_params"], wanted["online_params"]),
        *_other_settings(saved, config),
    )
    return Start(leaves, lines)


def check_start(config: TrainConfig) -> None:
    """Raise `InputError` unless --init-from names a run or weights. Read no arrays.

    It is refused with --init data_dependent, which fits the scales of layers to the
    encoder of step 0, before weights are read.
    """
    if config.init == "data_dependent":
        raise InputError(
            "--init data_dependent and --init-from both give the first weights; leave "
            "out one of them."
        )
    path = expanded(config.init_from or "")
    if holds_weights(path):
        find(path)
    else:
        read_run(path)


def _read(path: Path) -> tuple[TrainConfig, int, dict[str, Flat]]:
    """Return the settings of the network, the step, and flat state fields."""
    if holds_weights(path):
        weights = read_weights(path)
        heads = weights.heads or {}
        fields = {
            f"online_{kind}": {"encoder": weights.variables.get(collection, {})}
            | heads.get(collection, {})
            for kind, collection in (("params", "params"), ("stats", "batch_stats"))
        }
        config, step = weights.config, weights.step
    else:
        config, data = read_run(path)
        # Two images only give the shapes, so they are one group of statistics.
        network = create_network(config, data.probe_classes, stat_groups=1)
        images = jax.ShapeDtypeStruct((2, *data.image_shape), jnp.float32)
        shapes = jax.eval_shape(network.init, jax.random.key(0), images)
        # A checkpoint may come from many devices. One is enough to read it.
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placed = jax.tree.map(lambda leaf: leaf.update(sharding=device), shapes)
        items, step = load_items(path, items_of(placed._asdict()))
        fields = fields_of(items)
    return config, step, {name: flat(fields.get(name, {})) for name in FIELDS}


def _norms_in(saved: TrainConfig, found: dict[str, Flat]) -> dict[str, str]:
    """Return the norm of every part that has arrays."""
    parts = {key.partition("/")[0] for key in found["online_params"]}
    return {part: n for part, n in part_norms(saved).items() if part in parts}


def _other_settings(saved: TrainConfig, config: TrainConfig) -> Iterator[str]:
    """One line per setting that gives the encoder's arrays another meaning here."""
    of_norm = MEANING.get(part_norms(config)["encoder"], ())
    for name in ("padding", "stem_stride", *of_norm):
        there, here = getattr(saved.model, name), getattr(config.model, name)
        if there != here:
            flag = f"--model.{name.replace('_', '-')}"
            yield f"{flag} is {there} in the file and {here} in this run"
    for name in ("mean", "std"):  # of the pixels
        there, here = (_joined(getattr(c.augment, name)) for c in (saved, config))
        if there != here:
            yield f"--augment.{name} is {there} in the file and {here} in this run"


def _joined(numbers: tuple[float, ...]) -> str:
    """Return numbers as a flag takes them."""
    return " ".join(f"{number:.4g}" for number in numbers)


def _encoder_only(leaves: Flat) -> Flat:
    return {k: v for k, v in leaves.items() if k.startswith("encoder/")}


def _check_norms(config: TrainConfig, norms: dict[str, str], path: Path) -> None:
    if config.init_from_other_norm:
        return
    here = part_norms(config)
    parts = ("encoder",) if config.init_from_part == "encoder" else tuple(norms)
    for part in parts:
        if norms.get(part, here[part]) != here[part]:
            raise InputError(
                f"the {part} in {path} has norm {norms[part]}, but that of this run "
                f"has {here[part]}; use --norm={norms[part]}, or take the weights "
                f"anyway with --init-from-other-norm."
            )


def _report(found: Flat, wanted: Flat) -> Iterator[str]:
    """One line each: arrays taken, arrays left as initialized, arrays that misfit."""
    fits = {k for k in wanted if k in found and found[k].shape == wanted[k].shape}
    misfits = [k for k in wanted if k in found and k not in fits]
    yield f"taken: {_counts(fits)}"
    fresh = wanted.keys() - found.keys()
    if fresh:
        yield f"fresh, not in the file: {_counts(fresh)}"
    # A network of another width misfits everywhere, and five lines show it.
    for key in misfits[:5]:
        yield (
            f"fresh, did not fit: {key} is {tuple(found[key].shape)} in the file and "
            f"{tuple(wanted[key].shape)} in this run"
        )
    if len(misfits) > 5:
        yield f"fresh, did not fit: {len(misfits) - 5} more"
    unused = found.keys() - wanted.keys()
    if unused:
        yield f"left in the file: {_counts(unused)}"


def _counts(keys: Any) -> str:
    """Count arrays per part, as in "encoder (62 arrays), probe (2 arrays)"."""
    parts = [key.partition("/")[0] for key in keys]
    counted = ((part, parts.count(part)) for part in sorted({*parts}))
    return ", ".join(f"{part} ({count} arrays)" for part, count in counted)
