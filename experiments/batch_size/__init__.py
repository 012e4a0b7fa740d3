"""Whose accuracy falls with the group of images that it sees?"""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS
from experiments.scales import Scale
from experiments.sentences import flatness

# arXiv 2006.07733, Table 16; the optimizer's batch stays at 4096 there too.
PAPER = {4096: 72.5, 2048: 72.4, 1024: 72.2, 512: 72.2, 256: 71.8, 128: 69.6, 64: 59.7}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Groups halved from the batch down: of bn's statistics, of gn_ws's gradient."""
    sizes = [scale.batch_size]
    while sizes[-1] > scale.smallest_group:
        sizes.append(sizes[-1] // 2)

    def family(name: str, flags: tuple[str, ...], cut: str) -> list[Arm]:
        return [
            Arm(
                f"{name}-{size}",
                (*flags, f"--{cut}={scale.batch_size // size}"),
                paper=PAPER.get(size) if name == "bn" else None,
                x=size,
                family=name,
            )
            for size in sizes
        ]

    return (
        *family("bn", BN, "bn-stat-groups"),
        *family("gn_ws", GN_WS, "micro-batches"),
    )


EXPERIMENT = Experiment(
    name="batch_size",
    question="Whose accuracy falls with the group of images that it sees?",
    arms=arms,
    answer=flatness,
    paper="arXiv 2006.07733, Table 16: BatchNorm, ImageNet, ResNet-50, 300 epochs, "
    "optimizer batch 4096, linear top-1",
    axis="images in a group",
    paper_curve=PAPER,
    note="The optimizer's batch is the same in all arms. bn: statistics over groups of "
    "that many images. gn_ws: gradients accumulated over micro-batches of that many, "
    "which is exact: only rounding differs.",
)
