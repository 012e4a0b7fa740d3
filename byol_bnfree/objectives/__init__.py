"""Training objectives: BYOL, and the methods that it is compared with.

Each file is one method, a function of arrays. `make_objective` chooses one from the
configuration. `objective.py` describes a method for the training step. P1 is the BYOL
paper (arXiv 2006.07733).
"""

from byol_bnfree.config import TrainConfig
from byol_bnfree.objectives.barlow_twins import barlow_twins
from byol_bnfree.objectives.byol import byol
from byol_bnfree.objectives.infonce import infonce
from byol_bnfree.objectives.moco_v2 import moco_v2
from byol_bnfree.objectives.objective import Objective, Passed
from byol_bnfree.objectives.rotation import rotation
from byol_bnfree.objectives.simsiam import simsiam

__all__ = ["Objective", "Passed", "make_objective"]


def make_objective(config: TrainConfig) -> Objective:
    """Return the objective of a configuration."""
    match config.objective:
        case "byol":
            return byol(config.byol)
        case "infonce":
            return infonce(config.infonce)
        case "simsiam":
            return simsiam()
        case "moco_v2":
            return moco_v2(config.moco_v2)
        case "barlow_twins":
            return barlow_twins(config.barlow_twins)
        case "rotation":
            return rotation()
