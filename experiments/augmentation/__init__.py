"""Which image operations does each method need? Table 17 of arXiv 2006.07733."""

from experiments.drops import smaller_drops
from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS, SIMCLR
from experiments.scales import Scale
from experiments.sentences import both
from experiments.verdicts import against_paper

# The operations of P1's two views; a row says what differs. A pair is of both views.
PAPER = {
    "flip": (0.5, 0.5),
    "jitter": (0.8, 0.8),
    "grayscale": (0.2, 0.2),
    "blur": (1.0, 0.1),
    "solarize": (0.0, 0.2),
}
OFF = (0.0, 0.0)
NOTHING = dict.fromkeys(PAPER, OFF)
COLOUR = {name: PAPER[name] for name in ("jitter", "grayscale")}
# Row: what differs from the paper's views, BYOL's and SimCLR's top-1.
TABLE_17 = {
    "baseline": ({}, 72.5, 67.9),
    "no_flip": ({"flip": OFF}, 71.9, 67.3),
    "no_blur": ({"blur": OFF}, 71.2, 65.2),
    "no_colour": (dict.fromkeys(COLOUR, OFF), 63.4, 45.7),
    "no_jitter": ({"jitter": OFF}, 71.8, 63.7),
    "no_grayscale": ({"grayscale": OFF}, 70.3, 61.9),
    "no_blur_in_view2": ({"blur": (1.0, 0.0)}, 72.4, 67.5),
    "no_solarize": ({"solarize": OFF}, 72.3, 67.7),
    "neither_in_view2": ({"blur": (1.0, 0.0), "solarize": OFF}, 72.2, 67.4),
    "symmetric": ({"blur": (0.5, 0.5), "solarize": (0.2, 0.2)}, 72.5, 68.1),
    "crop": (NOTHING, 59.4, 40.3),
    "crop_flip": (NOTHING | {"flip": PAPER["flip"]}, 60.1, 40.2),
    "crop_colour": (NOTHING | COLOUR, 70.7, 64.2),
    "crop_blur": (NOTHING | {"blur": PAPER["blur"]}, 61.1, 41.7),
}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Every row for both methods and both norms; the views are the paper's throughout,
    also where the scale's recipe leaves the blur away.
    """

    def family(name: str, flags: tuple[str, ...], column: int | None) -> list[Arm]:
        return [
            Arm(
                f"{name}-{row}",
                (*flags, *_views(PAPER | entry[0])),
                paper=None if column is None else entry[column],
                family=name,
            )
            for row, entry in TABLE_17.items()
        ]

    return (
        *family("bn", BN, 1),
        *family("bn-simclr", (*BN, *SIMCLR), 2),
        *family("gn_ws", GN_WS, None),
        *family("gn_ws-simclr", (*GN_WS, *SIMCLR), None),
    )


def _views(chances: dict[str, tuple[float, float]]) -> tuple[str, ...]:
    return tuple(
        f"--augment.view{view}.{name}={pair[view - 1]:g}"
        for name, pair in chances.items()
        for view in (1, 2)
    )


EXPERIMENT = Experiment(
    name="augmentation",
    question="Which image operations do BYOL and SimCLR need?",
    arms=arms,
    answer=both(
        smaller_drops(("bn", "bn-simclr"), ("gn_ws", "gn_ws-simclr")), against_paper
    ),
    reference="bn-baseline",
    paper="arXiv 2006.07733, Table 17: BatchNorm, ImageNet, ResNet-50, 300 epochs, "
    "linear top-1",
    note="Colour is jitter and grayscale together. The paper claims that BYOL loses "
    "less than SimCLR if operations are left out. Its SimCLR of this table (67.9) is "
    "the original one. Ours has BYOL's heads, with which the paper has 69.2 or 69.4.",
)
