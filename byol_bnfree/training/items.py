"""A training state as the items of a checkpoint, so that an encoder loads alone.

| item             | what it holds                                                  |
|------------------|----------------------------------------------------------------|
| `encoder`        | the online encoder, as its module takes it                      |
| `target_encoder` | the target's                                                    |
| `heads`          | projectors, predictor and probe: the fields of a `TrainState`   |
| `training`       | step, optimizer, and what the objective remembers               |
"""

import dataclasses
from typing import Any

from jaxtyping import PyTree

from byol_bnfree.training.state import TrainState

ENCODERS = {"online": "encoder", "target": "target_encoder"}
WHOLE = "state"
"""The one item of a tree that is no `TrainState`, and of the first checkpoints."""


def split(state: PyTree) -> dict[str, PyTree]:
    """The items of a state; of any other tree, one."""
    if not isinstance(state, TrainState):
        return {WHOLE: state}
    names = [field.name for field in dataclasses.fields(state)]
    return items_of({name: getattr(state, name) for name in names})


def join(items: dict[str, PyTree]) -> PyTree:
    """The state of its items."""
    return items[WHOLE] if WHOLE in items else TrainState(**fields_of(items))


def items_of(fields: dict[str, PyTree]) -> dict[str, PyTree]:
    """The items of some fields of a state."""
    items: dict[str, Any] = {"heads": {}, "training": {}}
    for name, value in fields.items():
        network = name.partition("_")[0]
        if name == "memory" and not value:
            continue  # as in the checkpoints from before there were objectives
        if network not in ENCODERS:
            items["training"][name] = value
            continue
        items["heads"][name] = {k: v for k, v in value.items() if k != "encoder"}
        if "encoder" in value:
            kind = "params" if name.endswith("params") else "batch_stats"
            items.setdefault(ENCODERS[network], {})[kind] = value["encoder"]
    return {name: item for name, item in items.items() if item}


def fields_of(items: dict[str, PyTree]) -> dict[str, PyTree]:
    """The fields of a state that some items hold."""
    fields = items.get("training", {}) | items.get("heads", {})
    for network, item in ENCODERS.items():
        encoder = items.get(item, {})
        for kind, field in (("params", "params"), ("batch_stats", "stats")):
            if kind in encoder:
                name = f"{network}_{field}"
                fields[name] = fields.get(name, {}) | {"encoder": encoder[kind]}
    return fields
