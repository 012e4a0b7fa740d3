"""Does GroupNorm with Weight Standardization match BatchNorm?"""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, gn_ws
from experiments.scales import Scale
from experiments.sentences import versus

OTHERS = {"gn_ws_everywhere": "gn_ws", "gn": "gn", "ln": "ln", "none": "none"}

WARMUP2 = "--optim.warmup-epochs=2"


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The two arms of the dispute, and those that show what is needed.

    At cpu scale gn_ws a second time with recipe_search's best setting, which was found
    when the other experiments had been run.
    """
    best = (Arm("gn_ws_warmup2", (*gn_ws(scale), WARMUP2), paper=73.9),)
    return (
        Arm("bn", BN, paper=74.3),
        Arm("gn_ws", gn_ws(scale), paper=73.9),
        *(best if scale.name == "cpu" else ()),
        *(
            Arm(name, (f"--norm={norm}", *scale.batch_free), seeds_on_cpu=1)
            for name, norm in OTHERS.items()
        ),
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
