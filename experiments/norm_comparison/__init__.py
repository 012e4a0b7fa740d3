"""Does GroupNorm with Weight Standardization match BatchNorm?"""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS, SGD, lars
from experiments.scales import Scale
from experiments.sentences import versus

WS_HEADS = ("--projector-norm=ws", "--predictor-norm=ws")


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The two arms of the dispute, each with its own recipe; then one seed of others.

    The others change the optimizer, or a part of the network.
    """
    others = {
        "bn_sgd": (*BN, *SGD),
        "bn_lars": (*BN, *lars(scale)),
        "gn_ws_lars": (*GN_WS, *lars(scale)),
        "gn_ws_with_ws_heads": (*GN_WS, *WS_HEADS),
        **{norm: (f"--norm={norm}",) for norm in ("gn", "ln", "none")},
    }
    return (
        Arm("bn", BN, paper=74.3),
        Arm("gn_ws", GN_WS, paper=73.9),
        *(Arm(name, flags, seeds_on_cpu=1) for name, flags in others.items()),
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
