"""How many views of an image give the most accuracy in a given time?"""

from experiments.grid import Arm, Experiment, recipe_of
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.sentences import best_of_families

SMALL = 4
LARGE_COST, SMALL_COST = 0.40, 0.14
"""Time that one more view adds to a step of two views, as a share of that step. The
sums were within 0.1 of the times on one CPU. On another they are up to 0.21 higher than
the times in cost.json. The lengths of the rows follow them, so they stay."""
CHOICES = tuple((count, small) for small in (0, SMALL) for count in (2, 3, 4))


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Numbers of views, each as long as its passes take the time of two views."""
    return tuple(
        Arm(
            f"{norm}-{count}" + (f"+{small}small" if small else ""),
            (*flags, *_views(count, small), *_length(scale, flags, count, small)),
            family=norm,
        )
        for norm, flags in (("bn", BN), ("gn_ws", GN_WS))
        for count, small in CHOICES
    )


def _views(count: int, small: int) -> tuple[str, ...]:
    plain = (count, small) == (2, 0)
    return () if plain else (f"--views.count={count}", f"--views.small={small}")


def _length(
    scale: Scale, flags: tuple[str, ...], count: int, small: int
) -> tuple[str, ...]:
    """Epochs, or steps, that cost as much as the scale's do with two views."""
    cost = 1 + LARGE_COST * (count - 2) + SMALL_COST * small
    recipe, share = recipe_of(scale, flags), 1 / cost
    if share == 1:
        return ()
    if recipe.steps is not None:
        return (f"--steps={round(recipe.steps * share)}",)
    return (f"--epochs={recipe.epochs * share:.1f}",)


EXPERIMENT = Experiment(
    name="views",
    question="How many views of an image give the most accuracy in a given time?",
    arms=arms,
    answer=best_of_families,
    reference="gn_ws-2",
    paper="none of the papers has this comparison for BYOL without batch statistics",
    what={"cpu": "CIFAR-10, resnet14, the time of 16 epochs with two views"},
    note="Arms have about equal time, not equal epochs: by the times of steps in "
    "cost.json, those with more than two views get up to 10 % less. The times of the "
    "runs are of different machines.",
)
