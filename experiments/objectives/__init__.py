"""Does every method need batch statistics? All objectives with both norms."""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.sentences import best_of_families, both
from experiments.verdicts import against_paper

# Objective, and top-1 in Table 1 of arXiv 2006.07733 where it has one.
METHODS = {
    "byol": 74.3,
    "infonce": 69.3,
    "simsiam": None,
    "moco_v2": 71.1,
    "barlow_twins": None,
    "rotation": None,
}
KEYS = 4096
"""Length of MoCo's queue, where twice the batch is not longer."""


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Every objective with the recipe of each norm."""
    queue = f"--moco-v2.queue={max(KEYS, 2 * scale.batch_size)}"
    return tuple(
        Arm(
            f"{norm}-{method}",
            (*flags, f"--objective={method}", *[queue] * (method == "moco_v2")),
            paper=top1 if norm == "bn" else None,
            family=norm,
        )
        for norm, flags in (("bn", BN), ("gn_ws", GN_WS))
        for method, top1 in METHODS.items()
    )


EXPERIMENT = Experiment(
    name="objectives",
    question="Which objectives learn without batch statistics in the network?",
    arms=arms,
    answer=both(best_of_families, against_paper),
    reference="bn-byol",
    paper_epochs=1000,  # of BYOL's and SimCLR's figures in Table 1
    paper="arXiv 2006.07733, Table 1: BatchNorm, ImageNet, ResNet-50, every method "
    "with its own recipe and length, linear top-1",
    note="An arm is named norm and objective. infonce is SimCLR. All arms have the "
    "recipe of their norm, which was chosen for BYOL, so the other methods could do "
    "better. rotation is the floor: it compares no images.",
)
