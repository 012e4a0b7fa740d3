"""From BYOL to SimCLR, one change at a time: arXiv 2006.07733, Tables 5b, 18 and 19."""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS, bridge
from experiments.scales import Scale
from experiments.verdicts import against_paper

# Predictor, target, weight of the negatives, and top-1 (Tables 5b and 19).
TABLE_19 = (
    (True, "moving_average", 0, 72.5),  # BYOL
    (True, "moving_average", 1, 70.9),
    (False, "moving_average", 1, 70.7),
    (True, "stop_gradient", 1, 70.2),
    (False, "none", 1, 69.4),  # SimCLR
    (False, "stop_gradient", 1, 69.2),
    (True, "none", 1, 69.0),
    (True, "stop_gradient", 0, 5.5),
    (True, "none", 0, 0.3),
    (False, "moving_average", 0, 0.2),
    (False, "stop_gradient", 0, 0.1),
    (False, "none", 0, 0.1),
)
ALPHAS = (0.01, 0.1, 0.3, 1, 3, 10)
# Weight of the negatives to top-1 at each temperature, with predictor and target.
TABLE_18 = {
    0.1: (72.2, 72.4, 72.7, 72.6, 72.5, 72.5),
    0.5: (70.9, 72.0, 72.7, 72.7, 72.6, 72.5),
    1: (53.9, 70.9, 72.7, 72.7, 72.6, 72.6),
}
TARGETS = {"moving_average": "target", "stop_gradient": "stop", "none": "gradient"}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Both tables for both norms; the cell that they share is one arm."""

    def rows(norm: str, flags: tuple[str, ...]) -> list[Arm]:
        paper = norm == "bn"
        found = [
            Arm(
                _name(norm, predictor, target, beta),
                (*flags, *bridge(predictor, target, beta)),
                paper=top1 if paper else None,
                cell=(f"{beta:g}", "0.1") if _in_table_18(predictor, target) else None,
                family=norm,
            )
            for predictor, target, beta, top1 in TABLE_19
        ]
        return found + [
            Arm(
                f"{norm}-alpha{alpha:g}-beta{beta:g}",
                (*flags, *bridge(True, "moving_average", beta, alpha)),
                paper=top1 if paper else None,
                cell=(f"{beta:g}", f"{alpha:g}"),
                family=norm,
            )
            for beta, figures in TABLE_18.items()
            for alpha, top1 in zip(ALPHAS, figures, strict=True)
            if (beta, alpha) != (1, 0.1)  # a row of Table 19
        ]

    return (*rows("bn", BN), *rows("gn_ws", GN_WS))


def _name(norm: str, predictor: bool, target: str, beta: float) -> str:
    head = "predictor" if predictor else "plain"
    return f"{norm}-{head}-{TARGETS[target]}-beta{beta:g}"


def _in_table_18(predictor: bool, target: str) -> bool:
    return predictor and target == "moving_average"


EXPERIMENT = Experiment(
    name="contrastive",
    question="What lies between BYOL and SimCLR?",
    arms=arms,
    answer=against_paper,
    reference="bn-predictor-target-beta0",
    paper="arXiv 2006.07733, Tables 5b, 18 and 19: BatchNorm, ImageNet, ResNet-50, 300 "
    "epochs, linear top-1",
    cell_axes=lambda scale: ("beta", "alpha"),
    note="An arm is named norm, predictor or plain, what makes the targets, and beta. "
    "target: the target network; stop: the online network as a constant; gradient: the "
    "online network with its gradient. predictor-target-beta0 is BYOL, "
    "plain-gradient-beta1 is SimCLR.",
)
