"""Can the predictor take the place of the target?

arXiv 2006.07733, Tables 21 and 22, and section 5.
"""

from experiments.grid import Arm, Experiment, recipe_of
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.verdicts import against_paper

NO_TARGET = ("--optim.tau-base=0", "--optim.tau-schedule=constant")
# Rate of the predictor over that of the encoder, and top-1.
TABLE_21 = {0: 0.01, 1: 5.5, 2: 62.8, 10: 66.6, 20: 66.3}
PREDICTOR = (1, 1.5, 2, 5, 10)
# Rate of the projector to top-1 at each rate of the predictor.
TABLE_22 = {
    1: (3.2, 25.7, 60.8, 66.7, 66.9),
    1.5: (1.4, 9.2, 55.2, 61.5, 66.0),
    2: (2.0, 5.3, 15.8, 60.9, 66.3),
    5: (1.5, 2.5, 2.5, 20.5, 60.5),
    10: (0.1, 2.1, 1.9, 2.8, 8.3),
}
LINEAR = ("--model.predictor.depth=1", "--model.predictor.plain-dense=1")
"""One layer, plain under gn_ws too: the identity is no standardized kernel."""
IDENTITY = (*LINEAR, "--model.predictor-start=identity")


def paper_figures() -> dict[tuple[float, float], float]:
    """(projector's rate, predictor's) to top-1; Table 21 where both tables have one."""
    table = {
        (mu, lam): top1
        for mu, row in TABLE_22.items()
        for lam, top1 in zip(PREDICTOR, row, strict=True)
    }
    return table | {(1, lam): top1 for lam, top1 in TABLE_21.items()}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Tau 0 throughout; then other predictors at the usual rates, and BYOL itself."""

    def rows(norm: str, flags: tuple[str, ...]) -> list[Arm]:
        base, paper = (*flags, *NO_TARGET), norm == "bn"
        rates = [
            Arm(
                f"{norm}-projector{mu:g}-predictor{lam:g}",
                (
                    *base,
                    f"--optim.projector-lr-scale={mu:g}",
                    f"--optim.predictor-lr-scale={lam:g}",
                ),
                paper=top1 if paper else None,
                cell=(f"{mu:g}", f"{lam:g}"),
                family=norm,
            )
            for (mu, lam), top1 in sorted(paper_figures().items())
        ]
        others = {
            "linear": ((*base, *LINEAR), None),
            "identity": ((*base, *IDENTITY), None),
            "closed_form": ((*base, *_closed_form(scale, flags)), 52.5),
            "byol": (flags, 72.5),
        }
        return rates + [
            Arm(
                f"{norm}-{name}",
                settings,
                paper=top1 if paper else None,
                family=norm,
            )
            for name, (settings, top1) in others.items()
        ]

    return (*rows("bn", BN), *rows("gn_ws", GN_WS))


def _closed_form(scale: Scale, flags: tuple[str, ...]) -> tuple[str, ...]:
    """With projections narrow enough for the batch to fit them."""
    most = scale.batch_size // 4
    width = min(recipe_of(scale, flags).model.projector.out, most)
    heads = (f"--model.{head}.out={width}" for head in ("projector", "predictor"))
    return ("--byol.predictor=closed_form", *heads)


EXPERIMENT = Experiment(
    name="predictor",
    question="Can a fast predictor take the place of the target network?",
    arms=arms,
    answer=against_paper,
    reference="bn-byol",
    paper="arXiv 2006.07733, Tables 21, 22 and section 5: BatchNorm, ImageNet, "
    "ResNet-50, 300 epochs, linear top-1",
    cell_axes=lambda scale: ("rate of the projector", "rate of the predictor"),
    note="tau is 0 in all arms but byol: the target is the online network. Rates are "
    "multiples of the encoder's. linear: a predictor of one plain layer. identity: "
    "the same, started as the identity. closed_form: the least-squares fit of each "
    "batch, which uses batch statistics with every norm. Its projections have at most "
    "a quarter as many features as the batch has images: 64 at cpu scale, where "
    "bn-byol has 256. The paper's two tables disagree where they overlap, as with 5.5 "
    "and 3.2 at 1. Table 21 is shown there.",
)
