"""Which arms lose accuracy if fewer images are normalized together?"""

from experiments.drops import smaller_drops
from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS, SIMCLR
from experiments.scales import Scale
from experiments.sentences import both, flatness
from experiments.verdicts import against_paper

# arXiv 2006.07733, Table 16; the optimizer's batch stays at 4096 there too.
PAPER = {4096: 72.5, 2048: 72.4, 1024: 72.2, 512: 72.2, 256: 71.8, 128: 69.6, 64: 59.7}
PAPER_SIMCLR = {
    4096: 67.9,
    2048: 67.8,
    1024: 67.4,
    512: 66.5,
    256: 64.3,
    128: 63.6,
    64: 59.2,
}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Groups halved from the batch down: of bn's statistics, of gn_ws's gradient; then
    SimCLR over the same groups, and both methods over the batch itself.
    """
    sizes = [scale.batch_size]
    while sizes[-1] > scale.smallest_group:
        sizes.append(sizes[-1] // 2)

    # Groups of statistics keep the negatives, so only the uncut batch is in the paper.
    simclr = {k: v for k, v in PAPER_SIMCLR.items() if k == scale.batch_size}

    def family(
        name: str, flags: tuple[str, ...], cut: str, paper: dict[int, float]
    ) -> list[Arm]:
        """Cut the batch. The uncut batch is also the first of the smaller batches."""
        return [
            Arm(
                f"{name}-{size}",
                (*flags, f"--{cut}={scale.batch_size // size}"),
                paper=paper.get(size),
                x=size,
                family=name,
                starts=(f"{name}-batch",) * (size == scale.batch_size),
            )
            for size in sizes
        ]

    def whole(
        name: str, flags: tuple[str, ...], sizes: list[int], paper: dict[int, float]
    ) -> list[Arm]:
        """Use smaller batches: more steps per epoch, and fewer negatives."""
        return [
            Arm(
                f"{name}-{size}",
                (*flags, f"--batch-size={size}"),
                paper=paper.get(size),
                x=size,
                family=name,
            )
            for size in sizes
        ]

    return (
        *family("bn", BN, "bn-stat-groups", PAPER),
        *family("gn_ws", GN_WS, "micro-batches", {}),
        *family("bn-simclr", (*BN, *SIMCLR), "bn-stat-groups", simclr),
        *whole("bn-batch", BN, sizes[1:], {}),
        *whole("gn_ws-batch", GN_WS, sizes[1:], {}),
        *whole("bn-simclr-batch", (*BN, *SIMCLR), sizes[1:], PAPER_SIMCLR),
        *whole("gn_ws-simclr-batch", (*GN_WS, *SIMCLR), sizes, {}),
    )


DROPS = smaller_drops(
    ("bn", "bn-simclr"),
    ("bn-batch", "bn-simclr-batch"),
    ("gn_ws-batch", "gn_ws-simclr-batch"),
)

EXPERIMENT = Experiment(
    name="batch_size",
    question="Which arms lose accuracy if fewer images are normalized together?",
    arms=arms,
    answer=both(both(flatness, DROPS), against_paper),
    paper="arXiv 2006.07733, Table 16: BatchNorm, ImageNet, ResNet-50, 300 epochs, "
    "optimizer batch 4096, linear top-1",
    axis="images in a group",
    paper_curves={"BYOL": PAPER, "SimCLR": PAPER_SIMCLR},
    note="The number in a name counts images. In arms with batch in their name it is "
    "the optimizer's batch. All other arms have the same optimizer's batch. With bn "
    "their number is that of a group of statistics, and with gn_ws that of a "
    "micro-batch, which is exact but for rounding. bn-simclr has groups too, and the "
    "negatives of the whole batch. SimCLR has fewer negatives in a smaller batch. The "
    "paper averages the gradients of such batches instead. Against the paper, rows of "
    "SimCLR "
    "are compared with bn-simclr at the largest batch. The paper's SimCLR of this "
    "table (67.9 at 4096) is the original. Ours has BYOL's heads, with which the paper "
    "has 69.2 or 69.4.",
)
