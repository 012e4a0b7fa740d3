"""SimSiam: BYOL without a target network (arXiv 2011.10566)."""

from jaxtyping import Array, Float

from byol_bnfree.losses import byol_loss
from byol_bnfree.objectives.objective import Objective, Passed


def simsiam() -> Objective:
    """1 minus the mean cosine of predictions and projections.

    No gradient flows into the projections. The paper omits the 1. With it, a log axis
    can show the loss. The target is the online network itself: tau is 0. The predictor
    has its own learning rate, which stays constant (`optim.predictor_schedule`).

    References: Chen and He 2020, https://arxiv.org/abs/2011.10566, equations 1 to 4.
    """

    def loss(passed: Passed) -> Float[Array, " b"]:
        """Return the loss of each example, in [0, 2]: a quarter of BYOL's."""
        return byol_loss(passed.predictions, passed.targets) / 4

    return Objective(loss, target="stop_gradient")
