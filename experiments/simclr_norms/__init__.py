"""Does a method with negatives need normalization too? Table 1 of arXiv 2010.10241."""

from experiments.grid import Arm, Experiment
from experiments.recipes import GN_WS, SIMCLR, lars
from experiments.scales import Scale
from experiments.verdicts import against_paper

# Encoder, projector, and SimCLR's top-1 after 300 epochs on ImageNet.
TABLE_1 = (
    ("bn", "bn", 69.3),
    ("bn", "none", 68.5),
    ("ln", "ln", 68.0),
    ("ln", "none", 67.8),
    ("none", "bn", 53.8),
    ("none", "ln", 56.7),
    ("none", "none", 0.1),
)


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The seven rows under LARS, and gn_ws under LARS and under its own recipe."""
    rows = [
        Arm(
            f"{encoder}-{projector}",
            (
                f"--encoder-norm={encoder}",
                f"--projector-norm={projector}",
                "--predictor-norm=none",  # SimCLR has no predictor
                *SIMCLR,
                *lars(scale),
            ),
            paper,
        )
        for encoder, projector, paper in TABLE_1
    ]
    return (
        *rows,
        Arm("gn_ws", (*GN_WS, *SIMCLR)),
        Arm("gn_ws_lars", (*GN_WS, *SIMCLR, *lars(scale))),
    )


EXPERIMENT = Experiment(
    name="simclr_norms",
    question="Does SimCLR, which has negatives, need normalization too?",
    arms=arms,
    answer=against_paper,
    reference="bn-bn",
    byol=False,
    paper="arXiv 2010.10241, Table 1, right half: SimCLR, ImageNet, ResNet-50, 300 "
    "epochs, linear top-1; 0.1 is chance",
    note="An arm is named encoder-projector. If BatchNorm helped BYOL by implicit "
    "negatives, a method with negatives would not need it. In the paper SimCLR fails "
    "without normalization, and so does BYOL. All rows but gn_ws train with LARS, as "
    "in the paper. SimCLR in other experiments trains with Muon.",
)
