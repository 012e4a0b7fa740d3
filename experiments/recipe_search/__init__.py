"""Which optimizer suits each arm? As many trials for both, on held-out images."""

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
SHORT = ("--epochs=4", "--optim.warmup-epochs=0.5")
"""Of a trial at cpu scale: a quarter of the scale's length."""
SGD = ("--optim.name=sgd", "--optim.momentum=0.9", "--optim.weight-decay=5e-4")
MUON = ("--optim.name=muon", "--optim.momentum=0.95", "--optim.weight-decay=1e-5")
CONSTANT = ("--optim.tau-schedule=constant",)
TRIALS = {
    **{f"muon-{r:g}": (*MUON, *CONSTANT, f"--base-lr={r:g}") for r in (0.02, 0.04)},
}
OWN = {
    "bn": {f"sgd-{r:g}": (*SGD, *CONSTANT, f"--base-lr={r:g}") for r in (0.12, 0.24)},
    "gn_ws": {
        "muon-0.08": (*MUON, *CONSTANT, "--base-lr=0.08"),
        "muon-0.06-batch128": (
            *(*MUON, *CONSTANT),
            *("--base-lr=0.06", "--batch-size=128"),
        ),
    },
}


def arms(scale: Scale) -> tuple[Arm, ...]:
    """Short trials of optimizers and rates; DeepMind's LARS stands beside them."""
    held_out = HELD_OUT.get(scale.name, CIFAR)
    short = SHORT if scale.name == "cpu" else ()
    return tuple(
        Arm(f"{name}-{trial}", (*flags, *held_out, *short, *changed), family=name)
        for name, flags in (("bn", BN), ("gn_ws", GN_WS))
        for trial, changed in (TRIALS | OWN[name] | {"lars": lars(scale)}).items()
    )


EXPERIMENT = Experiment(
    name="recipe_search",
    question="Which optimizer suits each arm?",
    arms=arms,
    answer=best_of_families,
    reference="bn-sgd-0.12",
    paper="none",
    note="All figures are of training images that neither pre-training nor classifiers "
    "see, never of the test split. A trial at cpu scale has 4 epochs.",
)
