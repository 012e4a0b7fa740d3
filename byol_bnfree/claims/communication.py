"""Claim: the data that devices exchange in a training step.

`python -m byol_bnfree.claims.communication NETWORK NORM GROUPS` compiles a step for the
devices of its process. It reads the compiled program and prints the bytes by purpose,
as JSON.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from byol_bnfree.claims.finding import Finding
from byol_bnfree.claims.hlo import Moved, collectives
from byol_bnfree.claims.processes import finish, start
from byol_bnfree.config import HeadConfig, ModelConfig, OptimConfig, TrainConfig

DEVICES = 8  # of the compiled program; a ring of more moves nearly the same bytes
ARMS = (("bn", 1), ("bn", DEVICES), ("gn_ws", 1))  # norm, groups of statistics
ALLOWED = {"gradient", "metrics"}
METRICS = {"_metrics", "top_k"}
MEGABYTE = 1e6


def communication_claim(network: str, folder: Path, say) -> Finding:
    """Check that gn_ws moves only gradients and metrics between devices."""
    arms = {}
    for norm, groups in ARMS:
        name = norm if groups == 1 else f"{norm} in {groups} groups"
        say(f"compiling {network} {name} for {DEVICES} devices")
        module = "byol_bnfree.claims.communication"
        process = start(
            *(module, network, norm, str(groups)),
            devices=DEVICES,
            cache=folder / "compiled",
        )
        arms[name] = json.loads(finish(process))
    moved = arms["gn_ws"]["bytes"]
    others = {purpose: n for purpose, n in moved.items() if purpose not in ALLOWED}
    statistics = arms["bn"]["bytes"].get("batch statistics", 0)
    return Finding(
        f"a BYOL step of gn_ws sends only gradients and metrics ({network})",
        f"collectives in the step compiled for {DEVICES} CPU devices, batch 16, "
        f"16x16 images (gradient and statistics do not depend on either)",
        f"other bytes: gn_ws {sum(others.values())}, bn {statistics:,}",
        # If bn sends no statistics either, the count is wrong.
        not others and statistics > 0,
        note=table(network, arms),
    )


def table(network: str, arms: dict[str, Any]) -> str:
    """Tabulate the bytes of each arm by purpose, and per step in rings of devices."""
    lines = [
        f"{network}: collectives, MB by purpose, and MB that each device sends in a "
        f"step when rings of n devices all-reduce: 2 (n - 1) / n times the bytes"
    ]
    for name, arm in arms.items():
        sizes = arm["bytes"]
        every = sum(sizes.values())
        rings = ", ".join(
            f"{2 * (n - 1) / n * every / MEGABYTE:.2f} on {n}" for n in (8, 64, 512)
        )
        purposes = ", ".join(f"{k} {n / MEGABYTE:.4f}" for k, n in sizes.items())
        lines.append(f"  {name}: {arm['collectives']} collectives; {purposes}; {rings}")
    parameters = arms["gn_ws"]["parameters"] * 4 / MEGABYTE
    lines.append(f"  parameters of the online network: {parameters:.2f} MB")
    return "\n".join(lines)


def purpose(moved: Moved, sizes: dict[str, set[int]]) -> str:
    """Return the purpose of moving an array.

    `sizes` has each layer's parameter sizes.
    """
    functions = {name.split(".")[-1] for name in moved.functions}
    if "transpose(" in moved.operation:
        layers = [layer for layer in sizes if layer in moved.operation]
        if any(moved.elements in sizes[layer] for layer in layers):
            return "gradient"
        # Scale and offset have sums for each view, which statistics' gradients need
        # too.
        return "batch statistics" if "norm" in moved.operation else "unknown"
    if "_moments" in functions or "_statistics" in functions:
        return "batch statistics"
    if functions & METRICS or "loss_fn" in functions:
        return "metrics"
    return "unknown"


def measure(network: str, norm: str, groups: int) -> dict[str, Any]:
    """Compile one step on the available devices; return its collectives and bytes."""
    import jax

    from byol_bnfree.training.parts import DataShape, abstract_batch
    from byol_bnfree.training.program import build_program

    # The bytes depend on parameters and statistics. So the heads are the paper's, and
    # the images may be few and small.
    head = HeadConfig(hidden=4096, out=256)
    config = TrainConfig(
        norm=norm,
        batch_size=16,
        steps=10,
        bn_stat_groups=groups,
        model=ModelConfig(name=network, stem="small", projector=head, predictor=head),
        optim=OptimConfig(warmup_epochs=0),
    )
    shape = DataShape(160, 10, (16, 16, 3))
    program = build_program(config, shape, unroll=False)
    batch = abstract_batch(config, shape)
    compiled = program.step.lower(program.abstract_state, batch).compile()
    found = collectives(compiled.as_text())
    sizes: dict[str, set[int]] = defaultdict(set)
    leaves = jax.tree.leaves_with_path(program.abstract_state.online_params)
    for (_, *layer, _), leaf in leaves:
        sizes["/".join(key.key for key in layer)].add(leaf.size)
    by_purpose: dict[str, int] = defaultdict(int)
    named: dict[str, set[str]] = defaultdict(set)
    for moved in found:
        name = purpose(moved, sizes)
        by_purpose[name] += moved.bytes
        named[name].add(moved.collective)
    return {
        "collectives": len({moved.collective for moved in found}),
        "statistics_collectives": len(named["batch statistics"]),
        "bytes": by_purpose,
        "parameters": sum(leaf.size for _, leaf in leaves),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
