"""Does GroupNorm with Weight Standardization match BatchNorm?"""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.sentences import versus


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The two arms of the dispute, and three that show what is needed."""
    return (
        Arm("bn", BN, paper=74.3),
        Arm("gn_ws", GN_WS, paper=73.9),
        Arm("gn_ws_everywhere", ("--norm=gn_ws",), seeds_on_cpu=1),
        Arm("gn", ("--norm=gn",), seeds_on_cpu=1),
        Arm("ln", ("--norm=ln",), seeds_on_cpu=1),
        Arm("none", ("--norm=none",), seeds_on_cpu=1),
    )


EXPERIMENT = Experiment(
    name="norm_comparison",
    question="Does GroupNorm with Weight Standardization match BatchNorm?",
    arms=arms,
    answer=versus("gn_ws", "bn"),
    reference="bn",
    paper="arXiv 2010.10241: ImageNet, ResNet-50, 1000 epochs, linear top-1",
    paper_epochs=1000,
)
