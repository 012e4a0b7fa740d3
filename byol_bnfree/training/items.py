"""The training state as separate items of a checkpoint. An encoder can be read alone.

| item             | content                                                        |
|------------------|----------------------------------------------------------------|
| `encoder`        | online encoder: params and batch_stats of its module            |
| `target_encoder` | target encoder, likewise                                        |
| `heads`          | projectors, predictor and probe, by the fields of `TrainState`  |
| `training`       | step, optimizer, and the state of the objective                 |
"""

import dataclasses
from typing import Any

from jaxtyping import PyTree

from byol_bnfree.training.state import TrainState

ENCODERS = {"online": "encoder", "target": "target_encoder"}
WHOLE = "state"
"""The only item of a tree that is no `TrainState`."""


def split(state: PyTree) -> dict[str, PyTree]:
    """Split a state into items. Any other tree becomes a single item."""
    if not isinstance(state, TrainState):
        return {WHOLE: state}
    names = [field.name for field in dataclasses.fields(state)]
    return items_of({name: getattr(state, name) for name in names})


def join(items: dict[str, PyTree]) -> PyTree:
    """Join the items of a whole state."""
    return items[WHOLE] if WHOLE in items else TrainState(**fields_of(items))


def items_of(fields: dict[str, PyTree]) -> dict[str, PyTree]:
    """Split some fields of a state into items."""
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
    """Return the fields of a state that the items contain."""
    fields = items.get("training", {}) | items.get("heads", {})
    for network, item in ENCODERS.items():
        encoder = items.get(item, {})
        for kind, field in (("params", "params"), ("batch_stats", "stats")):
            if kind in encoder:
                name = f"{network}_{field}"
                fields[name] = fields.get(name, {}) | {"encoder": encoder[kind]}
    return fields
