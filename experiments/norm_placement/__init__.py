"""Where is normalization needed? Table 1 of arXiv 2010.10241."""

from experiments.grid import Arm, Experiment
from experiments.recipes import GN_WS, lars
from experiments.scales import Scale
from experiments.sentences import agreement, both
from experiments.verdicts import ranking

# Encoder, projector, predictor, and BYOL's top-1 after 300 epochs on ImageNet.
TABLE_1 = (
    ("bn", "bn", "bn", 73.2),
    ("bn", "bn", "none", 73.2),
    ("bn", "none", "bn", 72.0),
    ("bn", "none", "none", 72.1),
    ("ln", "ln", "ln", 0.1),
    ("ln", "ln", "none", 5.4),
    ("ln", "none", "ln", 0.1),
    ("ln", "none", "none", 0.1),
    ("none", "bn", "bn", 62.6),
    ("none", "bn", "none", 0.1),
    ("none", "ln", "ln", 0.1),
    ("none", "ln", "none", 0.1),
    ("none", "none", "bn", 61.1),
    ("none", "none", "ln", 0.1),
    ("none", "none", "none", 0.1),
)


def _placed(norms: list[str]) -> tuple[str, ...]:
    parts = ("encoder", "projector", "predictor")
    return tuple(f"--{p}-norm={n}" for p, n in zip(parts, norms, strict=True))


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The 15 rows under BYOL's own optimizer, and networks that the table lacks."""
    rows = [
        Arm(
            "-".join(norms),
            (*_placed(norms), *lars(scale)),
            paper,
        )
        for *norms, paper in TABLE_1
    ]
    others = {"gn_ws": GN_WS, "gn_ws_lars": (*GN_WS, *lars(scale))}
    others |= {f"{norm}_muon": (f"--norm={norm}",) for norm in ("ln", "none")}
    return (*rows, *(Arm(name, flags) for name, flags in others.items()))


EXPERIMENT = Experiment(
    name="norm_placement",
    question="In which part of the network does BYOL need normalization?",
    arms=arms,
    answer=both(agreement, ranking),
    paper="arXiv 2010.10241, Table 1: ImageNet, ResNet-50, 300 epochs, linear top-1; "
    "0.1 is chance",
    note="An arm is named encoder-projector-predictor. These rows use BYOL's LARS, as "
    "the paper did. ln_muon and none_muon use Muon, the optimizer of the gn_ws recipe.",
)
