"""DeepMind's released BYOL checkpoints (arXiv 2006.07733) as variables of this package.

Neither haiku nor dill is needed, and nothing in a file is executed. All ResNets of
their code are supported (18 to 200, any width), with BatchNorm's running averages and
the heads. The weights are licensed under CC BY-NC 4.0, and their code under Apache-2.0.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byol_bnfree.assembly import create_network
from byol_bnfree.config import (
    DataConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from byol_bnfree.files import expanded
from byol_bnfree.interop import work_folder
from byol_bnfree.interop.arrays import LazyArray
from byol_bnfree.interop.deepmind_names import ENCODER, params_of, stats_of
from byol_bnfree.interop.deepmind_pickle import not_loaded, read_pickle
from byol_bnfree.interop.pickle_machine import Refused
from byol_bnfree.interop.trees import Flat, check_fit, flat, nested
from byol_bnfree.models.architectures import ARCHITECTURES
from byol_bnfree.models.byol import target_part

LICENCE = (
    "These weights are DeepMind's, under CC BY-NC 4.0 "
    "(https://creativecommons.org/licenses/by-nc/4.0/): not for commercial use."
)
PARTS = ("online_params", "online_state", "target_params", "target_state")
IMAGENET = 1_281_167  # training images of the released networks
MOST_MODULES = 4096  # in one tree; the state of a ResNet-200 has 410


class Checkpoint(NamedTuple):
    """Both networks of a file. Trees are those of `TrainState`, as NumPy arrays."""

    config: TrainConfig
    num_classes: int | None
    step: int
    online_params: dict[str, Any]
    online_stats: dict[str, Any]
    target_params: dict[str, Any]
    """`{}` if the file has no target."""
    target_stats: dict[str, Any]


def load(path: str | Path, *, targets: bool = True) -> Checkpoint:
    """Read a released checkpoint, such as `pretrain_res50x1.pkl`.

    Args:
      path: the file.
      targets: read the target network too, if it is there.

    Raises:
      InputError: if the file is of another kind, or contains anything that such a
        checkpoint does not. Nothing in it was executed.
    """
    path = expanded(path)
    root = read_pickle(path)
    try:
        state, step = _experiment(root)
        trees = {part: _modules(state, part) for part in PARTS[: 4 if targets else 2]}
        _check_total(trees, path.stat().st_size)
        return _checkpoint(trees, step)
    except Refused as error:
        raise not_loaded(path, error) from None


def write_work_folder(path: str | Path, workdir: str | Path) -> Path:
    """Write the file's networks as a work folder; see `work_folder.write_work_folder`.

    Raises:
      InputError: as `load`, and if the size of an array does not fit the network that
        the other arrays describe.
    """
    found = load(path)
    check(found, str(path))
    fields = {
        "online_params": found.online_params,
        "online_stats": found.online_stats,
        "target_params": found.target_params,
        "target_stats": found.target_stats,
    }
    return work_folder.write_work_folder(
        workdir,
        found.config,
        {name: tree for name, tree in fields.items() if tree},
        step=found.step,
        num_classes=found.num_classes,
        examples=IMAGENET,
        source=f"{path}. {LICENCE}",
    )


def check(found: Checkpoint, path: str) -> None:
    """Raise `InputError` unless the arrays fit the network that `config` makes."""
    network = create_network(found.config, found.num_classes)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    expected = jax.eval_shape(network.init, jax.random.key(0), images)
    parts = found.online_params.keys()
    for tree, wanted in (
        (found.online_params, expected.online_params),
        (found.online_stats, expected.online_stats),
        (found.target_params, expected.target_params if found.target_params else {}),
        (found.target_stats, expected.target_stats if found.target_stats else {}),
    ):
        wanted = {part: wanted[part] for part in wanted if part in parts}
        check_fit(flat(tree), flat(wanted), path)


def _experiment(root: Any) -> tuple[dict[str, Any], int]:
    if not isinstance(root, dict) or not isinstance(root.get("experiment_state"), dict):
        raise Refused("has no experiment_state")
    step = root.get("step", 0)
    if isinstance(step, LazyArray) and step.shape == ():
        step = int(step.read())
    if not isinstance(step, int):
        raise Refused("has a step that is not a number")
    return root["experiment_state"], step


def _modules(state: dict[str, Any], part: str) -> dict[str, dict[str, LazyArray]]:
    """Return one tree: module -> name -> array."""
    modules = state.get(part, {})
    if part == "online_params" and not modules:
        raise Refused(f"has no {part}")
    if not isinstance(modules, dict) or len(modules) > MOST_MODULES:
        raise Refused(f"has {part} that are not modules by name")
    for name, arrays in modules.items():
        whole = isinstance(name, str) and isinstance(arrays, dict) and len(arrays) <= 4
        if not whole or not all(isinstance(a, LazyArray) for a in arrays.values()):
            raise Refused(f"has {part} with something other than arrays in a module")
    return modules


def _check_total(trees: dict[str, Any], size: int) -> None:
    """Check that all arrays fit into the file, since one may appear many times."""
    arrays = [a for tree in trees.values() for m in tree.values() for a in m.values()]
    if sum(array.bytes for array in arrays) > size:
        raise Refused("uses the same array in several places")


def _checkpoint(trees: dict[str, Any], step: int) -> Checkpoint:
    params = {part: dict(params_of(trees.get(part, {}))) for part in PARTS[::2]}
    stats = {part: dict(stats_of(trees.get(part, {}))) for part in PARTS[1::2]}
    online = params["online_params"]
    name = next(m for m in map(ENCODER.fullmatch, trees["online_params"]) if m)[1]
    classes = online["probe/kernel"].shape[1] if "probe/kernel" in online else None
    return Checkpoint(
        _config(name, online, step),
        classes,
        step,
        online_params=nested(online),
        online_stats=nested(stats["online_state"]),
        target_params=target_part(nested(params["target_params"])),
        target_stats=target_part(nested(stats["target_state"])),
    )


def _config(network: str, online: Flat, step: int) -> TrainConfig:
    """Read the settings from the shapes; the rest is DeepMind's published recipe."""
    name = "resnet" + network.removeprefix("res_net")
    if name not in ARCHITECTURES:
        raise Refused(f"has the network {network!r}")
    architecture = ARCHITECTURES[name]
    last = "conv3" if architecture.bottleneck else "conv2"
    width = _size(online, f"encoder/group0_block0/{last}/kernel", 3)
    width /= architecture.channels[0]
    stem = _size(online, "encoder/conv1/kernel", 3)
    plain = stem == architecture.stem_channels * width
    model = ModelConfig(
        name=name,
        width=width,
        stem_channels=None if plain else stem,
        projector=_head(online, "projector"),
        predictor=_head(online, "predictor"),
    )
    return TrainConfig(
        norm="bn",
        dataset="imagenet2012",
        batch_size=4096,
        steps=max(step, 1),
        base_lr=0.2,  # their recipe of 1000 epochs
        model=model,
        optim=OptimConfig(weight_decay=1.5e-6, warmup_epochs=10, tau_base=0.996),
        data=DataConfig(image_size=224, channels=3, test_split="validation"),
    )


def _size(online: Flat, leaf: str, axis: int) -> int:
    if leaf not in online or online[leaf].ndim <= axis:
        raise Refused(f"has no {leaf}")
    return online[leaf].shape[axis]


def _head(online: Flat, part: str) -> HeadConfig:
    if f"{part}/fc1/kernel" not in online:
        return HeadConfig()
    hidden = _size(online, f"{part}/fc1/kernel", 1)
    return HeadConfig(hidden=hidden, out=_size(online, f"{part}/fc2/kernel", 1))
