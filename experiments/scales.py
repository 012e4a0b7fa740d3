"""The sizes at which every experiment can be run."""

from dataclasses import dataclass

# For kernels the same as the recipes' rate of 2 and trust of 1e-3, but a tenth for
# biases and scales, which LARS leaves alone. At the full rate a direction common to all
# images grows in the first steps, and only a mean over the batch would take it away
# again; chosen by recipe_search at cpu scale (bn is better without), untried at gpu's.
SLOW_BIASES = ("--base-lr=0.2", "--optim.trust-coefficient=1e-2")


@dataclass(frozen=True)
class Scale:
    """A recipe to which the arms' settings are added."""

    name: str
    config: str
    """`{epochs}` is the experiment's, of the ImageNet recipe."""
    what: str
    """Data, network and length, in words."""
    batch_size: int
    smallest_group: int
    """Of the images that one normalization or micro-batch sees."""
    seconds: float | None
    """Expected length of a run; None: unknown."""
    machine: str
    """What that is expected of."""
    extra: tuple[str, ...] = ()
    batch_free: tuple[str, ...] = ()
    """Of `byol_bnfree.train`, for arms without batch statistics."""

    def flags(self, epochs: int) -> tuple[str, ...]:
        """Of `byol_bnfree.train`."""
        return (f"--config={self.config.format(epochs=epochs)}", *self.extra)


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            config="configs/smoke.py",
            what="generated shapes, 20 steps: does every arm run?",
            batch_size=16,
            smallest_group=8,
            seconds=40,
            machine="2 CPU cores",
        ),
        Scale(
            name="cpu",
            config="configs/cifar10_10k.py",
            what="10,000 images of CIFAR-10, resnet8 of width 2, 8 epochs",
            batch_size=256,
            smallest_group=8,
            seconds=240,
            machine="2 CPU cores with the cpu extra",
            # 16 groups of 4 channels take contrast and colour out of thin layers.
            batch_free=(*SLOW_BIASES, "--model.min-group-channels=16"),
        ),
        Scale(
            name="gpu",
            config="configs/cifar10_resnet18.py:200",
            what="CIFAR-10, ResNet-18, 200 epochs",
            batch_size=512,
            smallest_group=8,
            seconds=6500,  # lightly's BYOL, 108.3 minutes at the same batch and length
            machine="one A6000, by lightly's figure for its own BYOL",
            extra=("--evaluation.knn-every-epochs=5", "--run.keep=1"),
            batch_free=SLOW_BIASES,
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
            extra=("--model.last-scale-init=1",),  # as in both papers' figures
        ),
    )
}
