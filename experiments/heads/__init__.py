"""How deep and how wide must the heads be? Tables 14a and 14b of arXiv 2006.07733."""

from collections.abc import Mapping
from statistics import fmean

from experiments.comparison import Comparison, common_seeds
from experiments.grid import Arm, Experiment, distinct
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.verdicts import against_paper

# Layers of projector and predictor, and top-1.
TABLE_14A = {
    (1, 1): 61.9,
    (1, 2): 65.0,
    (1, 3): 65.7,
    (2, 1): 71.5,
    (2, 2): 72.5,
    (2, 3): 71.4,
    (3, 1): 71.4,
    (3, 2): 72.1,
    (3, 3): 72.1,
}
# Width of a projection, and top-1.
TABLE_14B = {16: 69.9, 32: 71.3, 64: 72.2, 128: 72.5, 256: 72.5, 512: 72.6}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Depth by depth, then the width; a width that the recipe has is one arm."""

    def rows(norm: str, flags: tuple[str, ...]) -> list[Arm]:
        paper = norm == "bn"
        depths = [
            Arm(
                f"{norm}-depth{projector}{predictor}",
                (
                    *flags,
                    f"--model.projector.depth={projector}",
                    f"--model.predictor.depth={predictor}",
                ),
                paper=top1 if paper else None,
                cell=(str(projector), str(predictor)),
                family=norm,
            )
            for (projector, predictor), top1 in TABLE_14A.items()
        ]
        widths = [
            Arm(
                f"{norm}-width{width}",
                (
                    *flags,
                    f"--model.projector.out={width}",
                    f"--model.predictor.out={width}",
                ),
                paper=top1 if paper else None,
                family=norm,
            )
            for width, top1 in TABLE_14B.items()
        ]
        return depths + widths

    return distinct(scale, (*rows("bn", BN), *rows("gn_ws", GN_WS)))


def answer(comparison: Comparison) -> str:
    """Give the means by depth of each head, and the order of the paper's rows."""
    parts = []
    for norm in ("bn", "gn_ws"):
        names = {(a, b): f"{norm}-depth{a}{b}" for a, b in TABLE_14A}
        if comparison.results.keys() >= {*names.values()}:
            found = {cell: comparison.results[name] for cell, name in names.items()}
            if seeds := common_seeds(list(found.values())):
                figures = {cell: r.mean_over(seeds) for cell, r in found.items()}
                parts.append(by_depth(norm, figures))
    if parts:
        parts.append(by_depth("The paper", TABLE_14A))
    return "\n".join([*parts, against_paper(comparison)])


def by_depth(who: str, figures: Mapping[tuple[int, int], float]) -> str:
    """Say the mean of each depth over the depths of the other head."""
    means = [
        ", ".join(
            f"{fmean(x for cell, x in figures.items() if cell[part] == depth):.1f}"
            for depth in (1, 2, 3)
        )
        for part in (0, 1)
    ]
    return (
        f"{who}, means over the depths of the other head: predictors of 1, 2 and 3 "
        f"layers have {means[1]} %, and projectors {means[0]} %."
    )


EXPERIMENT = Experiment(
    name="heads",
    question="How deep and how wide must projector and predictor be?",
    arms=arms,
    answer=answer,
    reference="bn-depth22",
    paper="arXiv 2006.07733, Tables 14a and 14b: BatchNorm, ImageNet, ResNet-50, 300 "
    "epochs, linear top-1",
    cell_axes=lambda scale: ("layers of the projector", "layers of the predictor"),
    note="depth23 has a projector of 2 and a predictor of 3 dense layers. width16 has "
    "projections of 16 features.",
)
