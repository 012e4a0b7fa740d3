"""The names of a network in three families of files, and the layout of its arrays.

| ours                          | torchvision, timm `resnet50` | timm `ResNetV2`       |
|-------------------------------|------------------------------|-----------------------|
| `conv1/kernel`                | `conv1.weight`               | `stem.conv.weight`    |
| `norm1/scale`                 | `bn1.weight`                 | `stem.norm.weight`    |
| `group0_block2/conv1`         | `layer1.2.conv1`             | `stages.0.blocks.2..` |
| `group0_block0/shortcut_conv` | `layer1.0.downsample.0`      | `..0.downsample.conv` |
| `final_norm/scale` (v2)       | `norm.weight` (no such net)  | `norm.weight`         |

Our kernels are HWIO; theirs are OIHW.
"""

import re
from typing import Literal

import numpy as np
from einops import rearrange

from byol_bnfree.interop.trees import Flat

Family = Literal["byol_bnfree", "torchvision", "timm"]

PARAMS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
STATS = {"mean": "running_mean", "var": "running_var", "count": "num_batches_tracked"}
BLOCK = re.compile(r"group(\d+)_block(\d+)/(.+)")
THEIR_STATS = {their: ours for ours, their in STATS.items()}
LEAF = r"\.(?P<leaf>weight|bias|running_mean|running_var|num_batches_tracked)"
THEIRS = {
    "torchvision": re.compile(
        r"(?:layer(?P<group>\d+)\.(?P<block>\d+)\.)?"
        r"(?:(?P<shortcut>downsample\.)(?=[01])|(?=conv|bn))"
        r"(?P<kind>conv|bn|0|1)(?P<number>\d)?" + LEAF
    ),
    "timm": re.compile(
        r"(?:stem|stages\.(?P<group>\d+)\.blocks\.(?P<block>\d+))\."
        r"(?P<shortcut>downsample\.)?(?P<kind>conv|norm)(?P<number>\d)?" + LEAF
    ),
}
FINAL = re.compile(r"norm" + LEAF)
LAYER = re.compile(r"(shortcut_)?(conv|norm)(\d?)")


def to_torch(ours: str, family: Family) -> str:
    """Return their name for one of our leaves, such as `group0_block2/conv1/kernel`."""
    module, _, leaf = ours.rpartition("/")
    leaf = PARAMS.get(leaf) or STATS[leaf]
    if module == "final_norm":
        return f"norm.{leaf}"
    block = BLOCK.fullmatch(module)
    shortcut, kind, number = LAYER.fullmatch(block[3] if block else module).groups()
    if family == "timm":
        place = f"stages.{block[1]}.blocks.{block[2]}." if block else "stem."
        layer = f"{kind}{number if block else ''}"
        return f"{place}{'downsample.' if shortcut else ''}{layer}.{leaf}"
    place = f"layer{int(block[1]) + 1}.{block[2]}." if block else ""
    if shortcut:
        return f"{place}downsample.{0 if kind == 'conv' else 1}.{leaf}"
    return f"{place}{'bn' if kind == 'norm' else kind}{number}.{leaf}"


def exported(variables: dict[str, Flat], family: Family) -> Flat:
    """Rename flat variables `{"params": ..., "batch_stats": ...}` to their names."""
    found: Flat = {}
    for collection, leaves in variables.items():
        for name, value in leaves.items():
            value = np.asarray(value)
            if family == "byol_bnfree":
                found[f"{collection}/{name}"] = value
            else:
                found[to_torch(name, family)] = _to_torch_layout(name, value)
    return {name: np.array(value, order="C") for name, value in found.items()}


def imported(theirs: Flat, family: Family) -> tuple[dict[str, Flat], list[str]]:
    """Return our flat variables, and those of their names that no encoder has."""
    found: dict[str, Flat] = {"params": {}, "batch_stats": {}}
    unused = []
    for their, value in theirs.items():
        collection, _, ours = from_torch(their, family).partition("/")
        if collection not in found:
            unused.append(their)
        elif family == "byol_bnfree":
            found[collection][ours] = np.asarray(value)
        else:
            found[collection][ours] = _from_torch_layout(ours, np.asarray(value))
    return {name: leaves for name, leaves in found.items() if leaves}, unused


def from_torch(their: str, family: Family) -> str:
    """Return our path, such as `params/conv1/kernel`; "" if no encoder has the name."""
    if family == "byol_bnfree":
        return their
    if match := FINAL.fullmatch(their):
        return _ours("final_norm", "norm", match["leaf"])
    match = THEIRS[family].fullmatch(their)
    if match is None:
        return ""
    found = match.groupdict()
    kind = {"0": "conv", "1": "norm", "bn": "norm"}.get(found["kind"], found["kind"])
    layer = f"{kind}{found['number'] or ''}"
    if found["group"] is None:
        place, layer = "", f"{kind}1"
    else:
        group = int(found["group"]) - (family == "torchvision")
        place = f"group{group}_block{found['block']}/"
        layer = f"shortcut_{kind}" if found["shortcut"] else layer
    return _ours(place + layer, kind, found["leaf"])


def _ours(module: str, kind: str, leaf: str) -> str:
    """Return our path of one of their leaves in one of our modules."""
    if leaf in THEIR_STATS:
        return f"batch_stats/{module}/{THEIR_STATS[leaf]}"
    ours = {("conv", "weight"): "kernel", ("norm", "weight"): "scale"}
    return f"params/{module}/{ours.get((kind, leaf), leaf)}"


def _to_torch_layout(name: str, value: np.ndarray) -> np.ndarray:
    if name.endswith("kernel"):
        return rearrange(value, "h w i o -> o i h w")
    return value.astype(np.int64) if name.endswith("count") else value


def _from_torch_layout(name: str, value: np.ndarray) -> np.ndarray:
    if name.endswith("kernel") and value.ndim == 4:
        value = rearrange(value, "o i h w -> h w i o")
    return value.astype(np.int32 if name.endswith("count") else np.float32)
