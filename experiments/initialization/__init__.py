"""Does BatchNorm only provide a good initialization?"""

from experiments.grid import Arm, Experiment
from experiments.recipes import GN_WS, lars
from experiments.scales import Scale
from experiments.sentences import initialization

PAPER_EPOCHS = 1000


def arms(scale: Scale) -> tuple[Arm, ...]:
    """No normalization, the same started as if normalized, and the arm that works.

    The first two use BYOL's LARS; none_muon has gn_ws's optimizer.
    """
    none = ("--norm=none", *lars(scale, PAPER_EPOCHS))
    return (
        Arm("none", none, paper=0.1),
        Arm("none_data_init", (*none, "--init=data_dependent"), paper=65.7),
        Arm("none_muon", ("--norm=none",)),
        Arm("gn_ws", GN_WS, paper=73.9),
    )


EXPERIMENT = Experiment(
    name="initialization",
    question="Does BatchNorm only provide a good initialization?",
    arms=arms,
    answer=initialization,
    paper="arXiv 2010.10241: ImageNet, ResNet-50, linear top-1; 300 epochs for none, "
    "probably 1000 for the others",
    paper_epochs=PAPER_EPOCHS,
)
