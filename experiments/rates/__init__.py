"""How sensitive are the arms to learning rate and weight decay?

arXiv 2006.07733, Tables 15a and 15b.
"""

from experiments.grid import Arm, Experiment, recipe_of
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.verdicts import against_paper

RATE, DECAY = 0.3, 1e-6  # the paper's recipe
UNIT = {"bn": 0.1, "gn_ws": 0.02}
"""Muon's weight decay in the recipe of 20 epochs and more (configs/cifar10_cpu.py).

Shorter recipes have 1e-5, whose multiples would all train the same network.
"""
# Base learning rate, and top-1.
TABLE_15A = {0.01: 34.8, 0.1: 65.0, 0.2: 71.7, 0.3: 72.5, 0.4: 72.3, 0.5: 71.5, 1: 69.4}
# Weight decay, and top-1; 0 diverged.
TABLE_15B = {0: None, 1e-7: 72.1, 5e-7: 72.6, 1e-6: 72.5, 5e-6: 71.0, 1e-5: 69.6}


def unit(scale: Scale, flags: tuple[str, ...]) -> float:
    """Return the weight decay of `decay1`: `UNIT`, or the recipe's own with LARS."""
    recipe = recipe_of(scale, flags)
    muon = recipe.optim.name == "muon"
    return UNIT[recipe.norm] if muon else recipe.optim.weight_decay


def axes(scale: Scale) -> tuple[str, str]:
    """Return the titles of the map's axes."""
    return (
        "base learning rate, in units of the recipe's",
        f"weight decay, in units of {unit(scale, BN):g} (bn) or "
        f"{unit(scale, GN_WS):g} (gn_ws)",
    )


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The paper's values in parts of its recipe's, times the rate of each norm's recipe
    and times `unit`."""

    def grid(norm: str, flags: tuple[str, ...]) -> list[Arm]:
        base_lr, one = recipe_of(scale, flags).base_lr, unit(scale, flags)
        return [
            Arm(
                f"{norm}-rate{rate / RATE:.2g}-decay{decay / DECAY:.2g}",
                (
                    *flags,
                    f"--base-lr={base_lr * rate / RATE:.6g}",
                    f"--optim.weight-decay={one * decay / DECAY:.6g}",
                ),
                paper=_paper(rate, decay) if norm == "bn" else None,
                paper_fails=norm == "bn" and (rate, decay) == (RATE, 0),
                cell=(f"{rate / RATE:.2g}", f"{decay / DECAY:.2g}"),
                family=norm,
            )
            for rate in TABLE_15A
            for decay in TABLE_15B
        ]

    return (*grid("bn", BN), *grid("gn_ws", GN_WS))


def _paper(rate: float, decay: float) -> float | None:
    """The paper varied one at a time."""
    if decay == DECAY:
        return TABLE_15A[rate]
    return TABLE_15B[decay] if rate == RATE else None


EXPERIMENT = Experiment(
    name="rates",
    question="How sensitive are bn and gn_ws to learning rate and weight decay?",
    arms=arms,
    answer=against_paper,
    reference="bn-rate1-decay1",
    paper="arXiv 2006.07733, Tables 15a and 15b: BatchNorm and LARS, ImageNet, "
    "ResNet-50, 300 epochs, linear top-1",
    cell_axes=axes,
    paper_columns=f"weight decay, in units of {DECAY:g}",
    note="rate0.67-decay5 has two thirds of the recipe's rate and 5 units of decay. "
    "With Muon a unit is 0.1 for bn and 0.02 for gn_ws at every scale. It is the "
    "decay of recipes of 20 epochs and more. Shorter recipes have 1e-5, and multiples "
    "of that train the same network. So decay1 is not their own decay. With LARS (bn "
    "at smoke and paper scale) a unit is the recipe's 1e-6. The paper varied one at a "
    "time, around 0.3 and 1e-6. It says that without decay runs diverge.",
)
