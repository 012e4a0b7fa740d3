"""Does GroupNorm with Weight Standardization match BatchNorm?"""

from experiments.comparison import Comparison
from experiments.decisions import interval
from experiments.grid import Arm, Experiment
from experiments.recipes import BN, GN_WS, SGD, lars
from experiments.scales import Scale
from experiments.seeds import paired_difference
from experiments.sentences import both, versus
from experiments.verdicts import against_paper

PAPER_EPOCHS = 1000
WS_HEADS = ("--projector-norm=ws", "--predictor-norm=ws")

DECAYED = {
    "bn_decay": (*BN, "--optim.weight-decay=0.1"),
    "gn_ws_decay": (*GN_WS, "--optim.weight-decay=0.02"),
}
"""The weight decay of the longer runs, which recipe_search chose for 20 epochs.

At cpu scale, a run of 16 epochs otherwise has 1e-5. That may cost bn more than gn_ws.
"""


def arms(scale: Scale) -> tuple[Arm, ...]:
    """The two arms of the dispute, each with its own recipe; then others.

    The others change the optimizer, or a part of the network.
    """
    others = {
        "bn_sgd": (*BN, *SGD),
        "bn_lars": (*BN, *lars(scale, PAPER_EPOCHS)),
        "gn_ws_lars": (*GN_WS, *lars(scale, PAPER_EPOCHS)),
        "gn_ws_with_ws_heads": (*GN_WS, *WS_HEADS),
        **{norm: (f"--norm={norm}",) for norm in ("gn", "ln", "none")},
    }
    if scale.name == "paper":
        del others["bn_lars"]  # bn is with LARS there
    if scale.name == "cpu":
        # Muon's recipes have a constant tau. These arms change the optimizer alone.
        constant = lars(scale, PAPER_EPOCHS, tau_schedule="constant")
        for name, norm in (("bn", BN), ("gn_ws", GN_WS)):
            others[f"{name}_lars_constant_tau"] = (*norm, *constant)
        # The best of gn_ws's short trials with LARS in recipe_search.
        slower = lars(scale, tau_schedule="constant", trust=0.0003)
        others["gn_ws_lars_trust_0.0003"] = (*GN_WS, *slower)
    decayed = DECAYED if scale.name == "cpu" else {}
    return (
        Arm("bn", BN, paper=74.3),
        Arm("gn_ws", GN_WS, paper=73.9),
        *(Arm(name, flags) for name, flags in decayed.items()),
        *(Arm(name, flags) for name, flags in others.items()),
    )


LARS = {
    "LARS": ("gn_ws_lars", "bn_lars"),
    "LARS and a constant tau": ("gn_ws_lars_constant_tau", "bn_lars_constant_tau"),
}
"""Arms of gn_ws and of bn that differ from the recipes in the optimizer."""

DECAY = {"the weight decay of longer runs": ("gn_ws_decay", "bn_decay")}


def answer(comparison: Comparison) -> str:
    """Compare gn_ws with bn: as they are, with more weight decay, and with LARS."""
    text = versus("gn_ws", "bn")(comparison)
    for change, pair in (DECAY | LARS).items():
        if comparison.results.keys() >= set(pair):
            text += f"\nWith {change}, {versus(*pair)(comparison)}"
    return text + "".join(gains(comparison, name) for name in LARS)


def gains(comparison: Comparison, name: str) -> str:
    """Say what each norm's recipe gains over LARS; empty if there is no common seed."""
    pairs = dict(zip(("gn_ws", "bn"), LARS[name], strict=True))
    if not comparison.results.keys() >= {*pairs.keys(), *pairs.values()}:
        return ""
    by_seed = {}
    for norm, arm in pairs.items():
        recipe = comparison.results[norm].percent("linear")
        run = comparison.results[arm].percent("linear")
        seeds = recipe.keys() & run.keys()
        by_seed[norm] = {seed: recipe[seed] - run[seed] for seed in seeds}
    more = paired_difference(by_seed["gn_ws"], by_seed["bn"])
    if more is None:
        return ""
    gn_ws, bn = (comparison.difference(*pair) for pair in pairs.items())
    return (
        f"\nOver {name}, gn_ws gains {gn_ws.mean:.1f} points "
        f"({interval(gn_ws)}). bn gains {bn.mean:.1f} points ({interval(bn)}). "
        f"The gains differ by {more.mean:+.1f} points ({interval(more)})."
    )


EXPERIMENT = Experiment(
    name="norm_comparison",
    question="Does GroupNorm with Weight Standardization match BatchNorm?",
    arms=arms,
    answer=both(answer, against_paper),
    reference="bn",
    paper="arXiv 2010.10241: ImageNet, ResNet-50, probably 1000 epochs, linear top-1",
    paper_epochs=PAPER_EPOCHS,
)
