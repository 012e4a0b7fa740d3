"""The arguments of `python -m experiments.dense`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.measuring import check_arguments, check_seeds

FOLDER = Path(__file__).parent
NORMS = ("bn", "gn_ws")


@dataclass(frozen=True)
class Arguments:
    """Compare dense tasks."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of pre-training, head and batches. Seed 0 chooses the rates of all
    seeds."""
    norms: tuple[Literal[NORMS], ...] = NORMS
    """Norms of encoder and head."""
    epochs: int = 10
    """Epochs of pre-training and of supervised training."""
    pictures: int = 9600
    """Pictures that a fit sees, with repetitions."""
    folder: Path = Path("runs/dense")
    """Work folders of pre-training."""
    results: Path = FOLDER / "results.jsonl"
    """File of the results, a line per arm."""
    report: bool = False
    """Only make the tables and the figure from results.jsonl."""

    def __post_init__(self):
        check_arguments(self)
        check_seeds(self.seeds)
