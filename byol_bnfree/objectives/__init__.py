"""What a network is trained for: BYOL, and the methods that it is compared with.

Each file is one method: arrays in, arrays out. `make_objective` chooses by the
configuration; `objective.py` says what a training step needs to know of a method.
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
    """The objective of a configuration."""
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
