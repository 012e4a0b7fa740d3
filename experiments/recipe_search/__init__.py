"""Which optimizer suits each arm? Trials on held-out images.

Both norms have the same trials of 4 epochs, and as many of 20 epochs.
"""

from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS, lars
from experiments.scales import Scale
from experiments.sentences import best_of_families

# Images of the training split that neither pre-training nor classifiers see.
CIFAR = ("--data.train-split=train[:45000]", "--data.test-split=train[45000:]")
HELD_OUT = {
    "smoke": (),
    "paper": (
        "--data.train-split=train[:1271158]",
        "--data.test-split=train[1271158:]",
    ),
}
EPOCHS = {"cpu": 4, "cpu40": 20}
"""A trial at cpu scale has a quarter of the scale's length; at cpu40, a half."""
SGD = ("--optim.name=sgd", "--optim.momentum=0.9", "--optim.weight-decay=5e-4")
MUON = ("--optim.name=muon", "--optim.momentum=0.95", "--optim.weight-decay=1e-5")
CONSTANT = ("--optim.tau-schedule=constant",)
RATE = (*MUON, *CONSTANT, "--base-lr=0.04")
TRIALS = {
    **{
        f"muon-{r:g}": (*MUON, *CONSTANT, f"--base-lr={r:g}")
        for r in (0.02, 0.04, 0.08)
    },
    "muon-0.06-batch128": (
        *(*MUON, *CONSTANT),
        *("--base-lr=0.06", "--batch-size=128"),
    ),
    # The target of a short run may lag too far behind, or the predictor may.
    "muon-0.04-tau-0.9": (*RATE, "--optim.tau-base=0.9"),
    **{
        f"muon-0.04-predictor-{scale}": (*RATE, f"--optim.predictor-lr-scale={scale}")
        for scale in (4, 10)
    },
    **{f"sgd-{r:g}": (*SGD, *CONSTANT, f"--base-lr={r:g}") for r in (0.12, 0.24)},
}
DECAYS = {
    f"muon-0.04-decay-{decay:g}": (*RATE, f"--optim.weight-decay={decay:g}")
    for decay in (1e-5, 0.02, 0.1)
}
"""Long trials: kernels grow for as long as a run lasts, and decay limits them."""
LONG = DECAYS | {
    "muon-0.06-batch128-decay-0.1": (
        *TRIALS["muon-0.06-batch128"],
        "--optim.weight-decay=0.1",
    ),
    "muon-0.04-decay-1e-05-predictor-10": (
        *DECAYS["muon-0.04-decay-1e-05"],
        "--optim.predictor-lr-scale=10",
    ),
}
"""A smaller batch was the best trial of 4 epochs for bn. A faster predictor has little
decay: decay is multiplied by the rate, too."""


def lars_trials(scale: Scale) -> dict[str, tuple[str, ...]]:
    """DeepMind's values for Imagenette, and slower and faster kernels.

    LARS changes a kernel by rate x trust coefficient of its norm. For biases the rate
    alone counts. So the trust coefficient makes kernels faster, and not biases.
    """
    constant = {
        f"lars-trust-{trust}": lars(scale, tau_schedule="constant", trust=trust)
        for trust in (0.0001, 0.0003, 0.001, 0.004, 0.01)
    }
    slow = (*constant["lars-trust-0.01"], "--optim.bias-lr-scale=0.1")
    # The rate and the clipping of solo-learn.
    clipped = lars(scale, tau_schedule="constant", trust=0.02, base_lr=1.0)
    return {
        "lars": lars(scale),
        **constant,
        "lars-trust-0.01-slow-biases": slow,
        "lars-1-trust-0.02-clip": (*clipped, "--optim.lars-clip"),
    }


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Trials of optimizers and rates; at cpu40, of Muon's weight decay."""
    held_out = HELD_OUT.get(scale.name, CIFAR)
    length = (f"--epochs={EPOCHS[scale.name]}",) if scale.name in EPOCHS else ()
    if scale.name == "cpu":
        length += ("--optim.warmup-epochs=0.5",)
    trials = LONG if scale.name == "cpu40" else TRIALS | lars_trials(scale)
    return tuple(
        Arm(f"{name}-{trial}", (*flags, *held_out, *length, *changed), family=name)
        for name, flags in (("bn", BN), ("gn_ws", GN_WS))
        for trial, changed in trials.items()
    )


EXPERIMENT = Experiment(
    name="recipe_search",
    question="Which optimizer suits each arm?",
    arms=arms,
    answer=best_of_families,
    paper="none",
    note="All figures are measured on training images that neither pre-training nor "
    "the classifiers see. The test split is not used. A trial has 4 epochs at cpu "
    "scale, and 20 at cpu40.",
    epochs=EPOCHS,
    what={
        scale: f"CIFAR-10, resnet14, trials of {epochs} epochs on 45,000 images"
        for scale, epochs in EPOCHS.items()
    },
)
