"""Must the loss normalize? Table 20 and Figure 7 of arXiv 2006.07733."""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.verdicts import against_paper

TABLE_20 = {"l2": 72.5, "layernorm": 72.5, "none": 67.4, "batchnorm": 65.3}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The four rows for both norms."""
    return tuple(
        Arm(
            f"{norm}-{name}",
            (*flags, f"--byol.loss-normalization={name}"),
            paper=top1 if norm == "bn" else None,
            family=norm,
        )
        for norm, flags in (("bn", BN), ("gn_ws", GN_WS))
        for name, top1 in TABLE_20.items()
    )


EXPERIMENT = Experiment(
    name="loss_normalization",
    question="What must the loss divide projections by?",
    arms=arms,
    answer=against_paper,
    reference="bn-l2",
    paper="arXiv 2006.07733, Table 20: BatchNorm in the network, ImageNet, ResNet-50, "
    "300 epochs, linear top-1",
    note="The last part of a name is the normalization of the loss, not the network's. "
    "batchnorm uses statistics of the batch, even if the network does not. Without "
    "normalization the paper's projections grow to a length of 3e6 (its Figure 7). The "
    "curves show the length of projections.",
)
