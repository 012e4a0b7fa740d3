"""How much does the moving average of the target matter?"""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS, bridge
from experiments.scales import Scale
from experiments.sentences import along_axis, both
from experiments.verdicts import against_paper

PAPER = {0.0: 0.3, 0.9: 68.4, 0.99: 72.5, 0.999: 69.8, 1.0: 18.8}
# Table 5b: the online network makes the targets, as a constant or with its gradient.
ONLINE = {"stop_gradient": 5.5, "none": 0.3}
NAMES = {"stop_gradient": "stop_gradient", "none": "gradient"}


def moving_average(tau: float) -> tuple[str, ...]:
    """Return the flags of a tau. At 0 it is constant, as in the paper."""
    constant = () if tau else ("--optim.tau-schedule=constant",)
    return (f"--optim.tau-base={tau:g}", *constant)


def arms(scale: Scale) -> tuple[Arm, ...]:
    """From a target that is the online network to one that never moves."""

    def family(name: str, flags: tuple[str, ...]) -> list[Arm]:
        return [
            Arm(
                f"{name}-tau{tau:g}",
                (*flags, *moving_average(tau)),
                paper=paper if name == "bn" else None,
                x=tau,
                family=name,
            )
            for tau, paper in PAPER.items()
        ] + [
            Arm(
                f"{name}-{NAMES[target]}",
                (*flags, *bridge(True, target, 0)),
                paper=paper if name == "bn" else None,
                family=name,
            )
            for target, paper in ONLINE.items()
        ]

    return (*family("bn", BN), *family("gn_ws", GN_WS))


EXPERIMENT = Experiment(
    name="target_network",
    question="How much does the moving average of the target matter?",
    arms=arms,
    answer=both(along_axis, against_paper),
    reference="bn-tau0.99",
    paper="arXiv 2006.07733, Tables 5a and 5b: BatchNorm, ImageNet, ResNet-50, 300 "
    "epochs, linear top-1",
    axis="tau",
    paper_curves={"BYOL": PAPER},
    note="tau is constant at cpu and gpu scales, as in their recipe. In the paper it "
    "rises to 1 on a cosine, except in row 0. At 0 the target is the online network, "
    "at 1 it keeps its initial weights. stop_gradient and gradient have no target "
    "network: the online network makes the targets in the same step, as constants or "
    "with its gradient. The paper has two figures for tau 0 with all rates 1: 0.3 in "
    "Table 5a and 5.5 in Table 21.",
)
