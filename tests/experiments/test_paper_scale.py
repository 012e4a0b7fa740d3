"""The ImageNet arms, of which only the program can be looked at here."""

import dataclasses

import pytest

import tiny
from byol_bnfree.command_line import parse_args
from byol_bnfree.training.parts import DataShape
from experiments import paper_scale
from experiments.grid import Run, load_experiment, make_runs
from experiments.paper_scale import Step, build
from experiments.scales import SCALES


def step_of(experiment: str, arm: str) -> Step:
    runs = make_runs(load_experiment(experiment), SCALES["paper"], (0,))
    (run,) = (run for run in runs if run.arm == arm)
    return build(run)


def test_arms_are_compiled_by_their_settings_and_not_by_their_names(
    capsys, monkeypatch
):
    def run(experiment: str, arm: str, settings: str) -> Run:
        return Run(experiment, "paper", arm, 0, (f"--of={settings}",), settings)

    built = []

    class Built:
        parameters = steps = 1
        lower = compile = lambda self: 1

    monkeypatch.setattr(
        paper_scale, "build", lambda run: built.append(run.settings) or Built()
    )
    first = run("a", "bn", "x")
    runs = [first, first._replace(seed=1), run("b", "bn", "y"), run("b", "other", "x")]
    paper_scale.compile_all(runs)
    assert built == ["x", "y"]
    said = capsys.readouterr().out
    assert "a bn, b other: " in said and "b bn: " in said and said.count("--of=") == 2


@pytest.mark.parametrize(
    "arm, expected",
    [
        ("gn_ws-2", {"crops": (4, 2, 32, 32, 3)}),
        ("bn-3", {"crops": (4, 3, 32, 32, 3)}),
        (
            "bn-3+4small",
            {"crops": (4, 3, 32, 32, 3), "small_crops": (4, 4, 16, 16, 3)},
        ),
    ],
)
def test_a_step_takes_all_views_of_its_arm(monkeypatch, arm, expected):
    """On a small network, which is enough for the shapes of a batch."""
    model = dataclasses.replace(tiny.config().model, name="resnet8")

    def small(flags):
        return dataclasses.replace(parse_args(flags), batch_size=4, model=model)

    monkeypatch.setattr(paper_scale, "parse_args", small)
    monkeypatch.setattr(paper_scale, "IMAGENET", DataShape(100, 3, (32, 32, 3)))
    (_, batch), _ = step_of("views", arm).traced.args_info
    found = {name: given.shape for name, given in batch.items() if "crops" in name}
    assert found == expected


@pytest.mark.slow
def test_a_step_of_64_micro_batches_is_lowered_for_accelerators_as_a_loop():
    step = step_of("batch_size", "gn_ws-64")
    assert (step.parameters, step.steps) == (37_115_944, 93_835)
    # One copy has 70,000, and 64 would have millions.
    assert step.lower() < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["bn", "gn_ws"])
def test_the_papers_step_compiles(arm):
    compiled = step_of("norm_comparison", arm).compile()
    analysis = compiled.memory_analysis()
    # 4096 pairs of crops, 1.15 GiB; 37.1 M parameters, as many of momentum, 33.0 M of
    # the target, 0.40 GiB.
    assert analysis.argument_size_in_bytes / 2**30 == pytest.approx(1.55, abs=0.01)
