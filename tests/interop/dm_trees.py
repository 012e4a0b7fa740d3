"""DeepMind's trees of a small ResNet-50, from our own variables."""

import numpy as np

from byol_bnfree.config import HeadConfig, ModelConfig, TrainConfig
from byol_bnfree.interop.trees import flat

HEAD = HeadConfig(hidden=8, out=4)
CONFIG = TrainConfig(
    norm="bn",
    model=ModelConfig(name="resnet50", width=1 / 16, projector=HEAD, predictor=HEAD),
)
PARAMS = {"kernel": "w", "scale": "scale"}
HEADS = {"fc1": "linear", "norm1": "batch_norm", "fc2": "linear_1"}


def module_of(path: list[str]) -> str:
    """Their module of one of our paths, without its leaf."""
    if path[0] == "probe":
        return "classifier"
    if path[0] != "encoder":
        return f"{path[0]}/{HEADS[path[1]]}"
    *block, layer = path[1:]
    kind, place = layer.rstrip("0123456789"), layer[-1]
    their = {"conv": "conv", "norm": "batchnorm"}
    if not block:
        return f"res_net50/~/initial_{their[kind]}"
    group, index = block[0].removeprefix("group").split("_block")
    before = f"res_net50/~/block_group_{group}/~/block_{index}/~/"
    if "shortcut" in layer:
        return before + f"shortcut_{their[layer.removeprefix('shortcut_')]}"
    return before + f"{their[kind]}_{int(place) - 1}"


def params_of(tree: dict) -> dict[str, dict[str, np.ndarray]]:
    """Parameters as theirs: norms have four axes in the encoder and two in heads."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, value in flat(tree).items():
        *path, leaf = name.split("/")
        value = np.asarray(value)
        is_norm = "norm" in path[-1]
        key = PARAMS.get(leaf) or ("offset" if is_norm else "b")
        if is_norm:
            axes = 4 if path[0] == "encoder" else 2
            value = value.reshape((1,) * (axes - 1) + (-1,))
        modules.setdefault(module_of(path), {})[key] = value
    return modules


def state_of(tree: dict) -> dict[str, dict[str, np.ndarray]]:
    """Statistics as theirs."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    leaves = {name: np.asarray(value) for name, value in flat(tree).items()}
    for name, value in leaves.items():
        norm, _, kind = name.rpartition("/")
        if kind == "count":
            continue
        axes = (1, 1, 1, -1) if norm.startswith("encoder") else (1, -1)
        count = leaves[f"{norm}/count"]
        modules[f"{module_of(norm.split('/'))}/~/{kind}_ema"] = {
            "counter": count,
            "hidden": value.reshape(axes),
            "average": (value / (1 - 0.9 ** max(int(count), 1))).reshape(axes),
        }
    return modules
