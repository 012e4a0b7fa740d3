"""Haiku's names of modules and arrays in DeepMind's BYOL, and our names for them."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from byol_bnfree.interop.arrays import LazyArray
from byol_bnfree.interop.pickle_machine import Refused

ENCODER = re.compile(r"(res_net\d+|tiny_res_net)/~/(.+)")
STEM = re.compile(r"initial_(conv|batchnorm)(?:_1)?")
BLOCK = re.compile(
    r"block_group_(\d)/~/block_(\d+)/~/(?:(conv|batchnorm)_(\d)|shortcut_(conv|batchnorm))"
)
HEADS = {"linear": "fc1", "batch_norm": "norm1", "linear_1": "fc2"}
LEAVES = {"w": "kernel", "b": "bias", "scale": "scale", "offset": "bias"}
AVERAGES = {"mean_ema": "mean", "var_ema": "var"}


def params_of(modules: dict[str, dict[str, LazyArray]]) -> Iterator[tuple[str, Any]]:
    """Yield parameters under our names, as float32."""
    for module, arrays in modules.items():
        for name, array in arrays.items():
            if name not in LEAVES:
                raise Refused(f"has the parameter {module}/{name}")
            value = array.read()
            # Haiku's scale and offset are [1, 1, 1, c].
            value = value if name == "w" else value.reshape(-1)
            yield (
                f"{_ours(module)}/{LEAVES[name]}",
                value.astype(np.float32, copy=False),
            )


def stats_of(modules: dict[str, dict[str, LazyArray]]) -> Iterator[tuple[str, Any]]:
    """Yield BatchNorm's running statistics without correction, and the update count.

    Their `hidden` is our mean or variance. Their `average` is
    `hidden / (1 - 0.9^counter)`, which our module computes when it needs it.
    """
    for module, arrays in modules.items():
        norm, _, average = module.rpartition("/~/")
        if average not in AVERAGES or not {"hidden", "counter"} <= arrays.keys():
            raise Refused(f"has the state {module}")
        hidden = arrays["hidden"].read().reshape(-1).astype(np.float32, copy=False)
        yield f"{_ours(norm)}/{AVERAGES[average]}", hidden
        count = arrays["counter"].read().reshape(())
        yield f"{_ours(norm)}/count", count.astype(np.int32)


def _ours(module: str) -> str:
    """Return our path for one of their modules."""
    encoder = ENCODER.fullmatch(module)
    if encoder:
        stem, block = STEM.fullmatch(encoder[2]), BLOCK.fullmatch(encoder[2])
        if stem:
            return f"encoder/{_role(stem[1])}1"
        if block:
            group, index, kind, place, shortcut = block.groups()
            layer = f"shortcut_{_role(shortcut)}" if shortcut else ""
            layer = layer or f"{_role(kind)}{int(place) + 1}"
            return f"encoder/group{group}_block{index}/{layer}"
    head, _, layer = module.partition("/")
    if head in ("projector", "predictor") and layer in HEADS:
        return f"{head}/{HEADS[layer]}"
    if module == "classifier":
        return "probe"
    raise Refused(f"has the module {module[:80]!r}")


def _role(kind: str) -> str:
    return {"conv": "conv", "batchnorm": "norm"}[kind]
