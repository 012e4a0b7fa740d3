"""The scales at which every experiment can run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

# Curves for the reports, and a single checkpoint, because a grid has many work folders.
CURVES = ("--run.log-every=50", "--run.layers-every=200", "--run.keep=1")
# On every machine, so that rows of different machines stand in one table.
FLOAT32, BFLOAT16 = "--compute-dtype=float32", "--compute-dtype=bfloat16"
# kNN as lightly counts it: 200 neighbours, and the best accuracy over the epochs, of
# which we measure every fifth.
AS_LIGHTLY = ("--evaluation.knn-k=200", "--evaluation.knn-every-epochs=5")

NO_LATE_FAILURES = (
    "{epochs} epochs of CIFAR-10 in a small network cannot show what fails late in "
    "{paper_epochs} epochs of ImageNet."
)
# experiments/target_network, one seed: 43.5 % with tau 1, 38.9 % with tau 0.99.
NO_TARGET = (
    "{epochs} epochs of CIFAR-10 in a small network say little about BYOL: at this "
    "length bn with a frozen target was ahead of bn with a moving one."
)
SAYS_LITTLE = 4
"""Epochs of the longest runs for which `NO_TARGET` was seen."""
# experiments/views: 64 epochs of gn_ws take 48 minutes on an Intel Xeon (cost.json at
# c4b21a5), and 115 on an AMD EPYC without AVX-512 (at 6a147b5).
WITH_AVX512 = (
    "2 CPU cores with AVX-512 and the cpu extra; CPUs without AVX-512 take about 2.4 "
    "times as long"
)


@dataclass(frozen=True)
class Scale:
    """A recipe, to which the settings of the arms are added."""

    name: str
    config: str
    """Config file.

    `{epochs}` becomes the experiment's epochs in the ImageNet recipe.
    """
    what: str
    """Data, network and length, in words."""
    batch_size: int
    smallest_group: int
    """Smallest number of images in one normalization or micro-batch."""
    seconds: float | None
    """Expected duration of a run; None if unknown."""
    machine: str
    """The machine on which `seconds` was measured."""
    caveat: str
    """A sentence that says why the results cannot equal the papers'.

    `{epochs}` are its own, and `{paper_epochs}` the paper's.
    """
    caveat_if_short: str = ""
    """The sentence of runs of up to `SAYS_LITTLE` epochs, where it is another."""
    epochs: int | None = None
    """Length of a run in epochs."""
    cores: int | None = None
    """Cores on which `seconds` was measured, where a run uses no accelerator."""
    extra: tuple[str, ...] = ()
    """Flags of `byol_bnfree.train` for every arm."""

    def flags(self, epochs: int) -> tuple[str, ...]:
        """Return the flags of `byol_bnfree.train`."""
        return (f"--config={self.config.format(epochs=epochs)}", *self.extra)

    def caveat_beside(
        self, paper_epochs: int, epochs: int | None = None, byol: bool = True
    ) -> str:
        """Return the caveat beside a paper of so many epochs.

        `epochs` are those of a run, where they are not the scale's. `byol` is False if
        no arm is BYOL.
        """
        epochs = epochs or self.epochs
        short = byol and epochs is not None and epochs <= SAYS_LITTLE
        caveat = self.caveat_if_short if short else ""
        return (caveat or self.caveat).format(epochs=epochs, paper_epochs=paper_epochs)

    def with_model(self, where: str) -> "Scale":
        """Return this scale with the encoder of `FILE:FUNCTION` in every arm."""
        file, _, function = where.rpartition(":")
        return replace(
            self,
            what=f"{self.what}; the encoder is {function} of {Path(file).name} instead",
            seconds=None,
            extra=(*self.extra, f"--model={where}"),
        )


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            config="configs/smoke.py",
            what="generated shapes, 20 steps, which show whether every arm runs",
            batch_size=16,
            smallest_group=8,
            seconds=40,
            machine="2 CPU cores",
            caveat="20 steps tell nothing about any method.",
            cores=2,
            extra=(FLOAT32,),
        ),
        *(
            Scale(
                name=name,
                config=config,
                what=f"CIFAR-10, resnet14, {epochs} epochs",
                batch_size=256,
                smallest_group=8,
                seconds=44 * epochs,
                machine=WITH_AVX512,
                caveat=NO_LATE_FAILURES,
                caveat_if_short=NO_TARGET,
                epochs=epochs,
                cores=2,
                extra=(FLOAT32, *CURVES, f"--evaluation.knn-every-epochs={knn_every}"),
            )
            for name, config, epochs, knn_every in (
                ("cpu4", "configs/cifar10_cpu.py:4", 4, 2),
                ("cpu8", "configs/cifar10_cpu.py:8", 8, 2),
                ("cpu", "configs/cifar10_cpu.py:16", 16, 2),
                ("cpu30", "configs/cifar10_cpu.py:30", 30, 5),
                ("cpu40", "configs/cifar10_cpu.py:40", 40, 5),
                ("cpu_hour", "configs/cifar10_cpu_hour.py", 64, 8),
                ("cpu144", "configs/cifar10_cpu.py:144", 144, 12),
            )
        ),
        *(
            Scale(
                name=f"gpu{epochs}",
                config=f"configs/cifar10_resnet18.py:{epochs}",
                what=f"CIFAR-10, ResNet-18, {epochs} epochs",
                batch_size=512,
                smallest_group=8,
                seconds=2.1 * epochs,  # 50,000 images at 25,000 images/s, plus kNN
                machine="one H100",
                caveat="{epochs} epochs of CIFAR-10 with ResNet-18 are another task "
                "than {paper_epochs} epochs of ImageNet with ResNet-50.",
                epochs=epochs,
                extra=(BFLOAT16, *CURVES, *AS_LIGHTLY),
            )
            for epochs in (30, 100, 200)
        ),
        Scale(
            name="paper",
            config="configs/imagenet_resnet50.py:{epochs}",
            what="ImageNet, ResNet-50",
            batch_size=4096,
            smallest_group=64,
            seconds=None,
            machine="an accelerator pod (DeepMind: 8 hours for 1000 epochs on 512 "
            "TPU v3 cores)",
            caveat="Nothing is run at this scale.",
            # As for both papers' results.
            extra=(BFLOAT16, "--model.last-scale-init=1"),
        ),
    )
}


def scales_of(model: str | None) -> Mapping[str, Scale]:
    """Return all scales by name, with `FILE:FUNCTION` as the encoder if it is given."""
    if model is None:
        return SCALES
    return {name: scale.with_model(model) for name, scale in SCALES.items()}
