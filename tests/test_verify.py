"""`python -m byol_bnfree.verify`: its exit status, and what it compares."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import tiny
from byol_bnfree import verify
from byol_bnfree.claims import (
    communication,
    functions,
    network,
    places,
    rounding,
    training,
)
from byol_bnfree.claims.finding import Finding
from byol_bnfree.claims.hlo import collectives
from byol_bnfree.claims.processes import run_tasks
from byol_bnfree.claims.runs import Runs
from byol_bnfree.claims.settings import (
    for_analysis,
    other_optimizer,
    trains_with_batch_statistics,
    uses_batch_statistics,
)
from byol_bnfree.claims.settings import tiny as tiny_run
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import TrainConfig, ViewsConfig
from byol_bnfree.config_files import load_config
from byol_bnfree.cpu import native
from byol_bnfree.cpu.choice import XLA_ON_CPU
from byol_bnfree.diagnostics import static_independence
from byol_bnfree.diagnostics.dataflow import Place
from byol_bnfree.diagnostics.numerical import NumericalReport
from byol_bnfree.errors import InputError
from byol_bnfree.machine import precision
from byol_bnfree.models.kernels import XLA
from byol_bnfree.settings.objective_checks import couples_in_loss

one = np.ones(1)
SMALL = (
    "--model.name=resnet8 --model.width=0.5 --model.stem=small --model.stem-stride=2 "
    "--model.projector.hidden=8 --model.projector.out=8 --model.predictor.hidden=8 "
    "--model.predictor.out=8 --data.image-size=16"
).split()


def status(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["verify", *SMALL, *arguments])
    with pytest.raises(SystemExit) as ended:
        exit_on_error(verify.main)
    return ended.value.code


@pytest.mark.parametrize("norm, code", [("gn_ws", 0), ("bn", 1)])
def test_the_program_is_judged_and_the_status_says_so(norm, code, monkeypatch, capsys):
    assert status(monkeypatch, f"--norm={norm}", "--claims=program") == code
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ("as expected of bn" in said) == (norm == "bn")
    assert "parameter gradient" in said


OWN = """
import jax.numpy as jnp
from flax import linen as nn
from jax import lax, vmap

def halved(x):
    return lax.while_loop(lambda y: y.max() > 1, lambda y: y / 2, x)

class Own(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, h, train):
        if self.kind == "large" and len(h) > 4:
            h = h - h.mean(0, keepdims=True)
        if self.kind == "ghosts":
            groups = h.reshape(-1, 8 if len(h) % 8 == 0 else 1, *h.shape[1:])
            h = (groups - groups.mean(1, keepdims=True)).reshape(h.shape)
        if self.kind == "loop":
            h = vmap(halved)(h)
        h = nn.Dense(8)(h.mean((1, 2)))
        if self.kind != "keeps":
            return h
        last = self.variable("batch_stats", "last", jnp.zeros, (64, 8))
        before = last.value[:len(h)]
        if train:
            last.value = last.value.at[:len(h)].set(h)
        return h - before

def large(layers): return Own("large")
def ghosts(layers): return Own("ghosts")
def loop(layers): return Own("loop")
def keeps(layers): return Own("keeps")
"""


@pytest.mark.parametrize(
    "kind, place",
    [
        ("large", "reduce_sum at"),
        ("ghosts", "reduce_sum at"),
        ("keeps", "kept for later batches: online/encoder/last"),
    ],
)
def test_an_encoder_is_checked_with_the_batch_and_the_memory_of_a_run(
    kind, place, tmp_path, monkeypatch
):
    monkeypatch.setattr(network, "combined_in_step", lambda _: {})
    monkeypatch.setattr(network, "views_of_run", lambda _: jax.numpy.float32)
    (tmp_path / "mine.py").write_text(OWN)
    own = [*SMALL, f"--model={tmp_path}/mine.py:{kind}"]
    config, _ = verify.parse([*own, "--batch-size=16"])
    finding = verify.check("program", config, tmp_path)
    assert not finding.holds and place in finding.deviation
    assert "32x16x16x3 images as in the run" in finding.how
    config, _ = verify.parse([*own, "--batch-size=2"])
    assert verify.check("program", config, tmp_path).holds == (kind != "keeps")


def test_an_encoder_without_a_gradient_to_its_images_is_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "combined_in_step", lambda _: {})
    monkeypatch.setattr(network, "views_of_run", lambda _: jax.numpy.float32)
    (tmp_path / "mine.py").write_text(OWN)
    config, _ = verify.parse([*SMALL, f"--model={tmp_path}/mine.py:loop"])
    finding = verify.check("program", config, tmp_path)
    assert finding.holds, finding
    assert "no gradient to the images (Reverse-mode diff" in finding.how
    numbers = verify.check("independence", config, tmp_path)
    assert numbers.holds and "derivative not measured" in numbers.deviation


@pytest.mark.parametrize("wanted, words", [("xla", "XLA"), ("onednn", "oneDNN")])
def test_the_kernels_of_a_run_are_checked_and_named(wanted, words, monkeypatch):
    config, _ = verify.parse([*SMALL, f"--run.convolution={wanted}"])
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    if wanted == "onednn" and native.register():
        pytest.skip("oneDNN is not installed")
    built = []
    monkeypatch.setattr(functions, "build_parts", lambda *a: built.append(a[2]))
    for build in (functions.outputs_of_few, functions.traced_as_in_run):
        with pytest.raises(AttributeError):  # nothing is built
            build(config, 16)
    run, traced = built
    assert run.words == words and traced.words == "XLA"
    assert run.conv is not XLA.conv and traced is XLA_ON_CPU


VIEWS = ["--views.count=3", "--views.small=1"]


@pytest.mark.parametrize("how", [[], ["--views.accumulate"]], ids=["joint", "apart"])
@pytest.mark.parametrize("norm", ["gn_ws", "bn"])
def test_a_step_of_several_views_combines_images_under_bn_only(norm, how):
    config, _ = verify.parse([*SMALL, *VIEWS, *how, f"--norm={norm}"])
    purposes = places.combined_in_step(config)
    others = [purpose for purpose in purposes if purpose.startswith("elsewhere")]
    assert ("mean loss" in purposes) == (norm == "gn_ws")
    assert bool(others) == (norm == "bn")
    assert all("cpu/moments.py" in purpose for purpose in others)


def test_the_traced_program_draws_every_view():
    config, _ = verify.parse([*SMALL, *VIEWS])
    pixels = jax.ShapeDtypeStruct((2, 16, 16, 3), "uint8")
    drawn = jax.eval_shape(functions.views_of_run(config), pixels)
    assert [view.shape[1] for view in drawn] == [16, 16, 16, 8]


@pytest.mark.parametrize(
    "arguments", [["--norm=gn_ws", "--model.unit-kernels"], ["--batch-size=1"]]
)
def test_the_control_takes_settings_that_batchnorm_has_not(arguments, monkeypatch):
    config, _ = verify.parse([*SMALL, *arguments])
    seen = []
    monkeypatch.setattr(
        network, "outputs_of_few", lambda config, _: seen.append(config) or 9
    )
    with pytest.raises(TypeError):  # nothing is measured
        verify.check("control", config, Path("."))
    assert seen[0].norm == "bn" and not seen[0].model.unit_kernels


def test_the_network_that_was_checked_is_named(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from flax import linen as nn\n"
        "class Mean(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, images, train):\n"
        "        return nn.Dense(8)(images.mean((1, 2)))\n"
        "def mean(layers): return Mean()\n"
    )
    own = [f"--model={tmp_path}/mine.py:mean", "--data.image-size=40"]
    config, _ = verify.parse([*SMALL, *own])
    finding = verify.check("independence", config, tmp_path)
    assert finding.how.startswith("mean, 4x40x40x3 ")  # it may take no other size


def test_the_values_that_go_with_a_gradient_are_examined():
    @jax.custom_vjp
    def leaking(x):
        return x

    leaking.defvjp(lambda x: (x - x.mean(0)[None], None), lambda _, g: (g,))
    program = functions.gradient_and_values(lambda x, _: {"loss": leaking(x)})
    assert static_independence(program, one[:, None] * np.ones((4, 2)), {}).places


def test_so_are_those_of_a_gradient_that_reaches_the_weights_only():
    @jax.custom_vjp
    def leaking(weight, x):
        return weight * x

    leaking.defvjp(
        lambda w, x: (w * (x - x.mean(0)[None]), x), lambda x, g: ((g * x).sum(), g)
    )
    stop = jax.lax.stop_gradient
    program = functions.gradient_and_values(lambda x, w: {"loss": leaking(w, stop(x))})
    images = one[:, None] * np.ones((4, 2), np.float32)
    assert static_independence(program, images, np.float32(1)).places


def test_an_error_in_a_claim_fails_it_and_the_other_claims_are_kept(
    monkeypatch, capsys
):
    def check(name, *_):
        if name == "loss":
            raise RuntimeError("out of memory")
        if name == "control":
            raise InputError("impossible.")
        return Finding(name, "", "", True)

    monkeypatch.setattr(verify, "check", check)
    assert status(monkeypatch, "--claims=loss,program") == 1
    said = capsys.readouterr().out
    assert "RuntimeError: out of memory" in said and "│ program" in said
    assert "Traceback" in said
    assert status(monkeypatch, "--claims=program,control") == 2
    assert "│ program" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, where",
    [
        (["--objective=byol"], None),
        (["--objective=simsiam"], None),
        (["--objective=rotation"], None),
        (["--objective=infonce", "--infonce.beta=0"], None),
        (["--objective=infonce"], "objectives/infonce.py"),
        (["--objective=moco_v2"], "objectives/moco_v2.py"),
        (["--objective=barlow_twins"], "objectives/normalization.py"),
        (["--byol.loss-normalization=batchnorm"], "objectives/normalization.py"),
        (["--views.count=3", "--views.small=1"], None),
        (
            ["--views.count=3", "--byol.loss-normalization=batchnorm"],
            "objectives/normalization.py",
        ),
        (["--byol.predictor=closed_form", "--batch-size=64"], "objectives/byol.py"),
    ],
)
def test_the_place_where_a_loss_needs_the_batch_is_named(arguments, where):
    config, _ = verify.parse([*SMALL, *arguments])
    finding = verify.check("loss", config, Path("."))
    assert finding.holds == (where is None)
    assert (where or "no mixing operation") in finding.deviation
    assert ("3 large views" in finding.how) == ("--views.count=3" in arguments)
    cause = couples_in_loss(config) or config.objective  # the queue of moco_v2
    expected = f"fails, as expected of {cause}"
    assert finding.verdict == (expected if where else "holds")


def test_batchnorm_and_a_queue_have_no_micro_batches(tmp_path):
    """They would need groups, whose statistics a query and its own key would share."""
    config = TrainConfig(objective="moco_v2", norm="bn")
    finding = verify.check("pieces", config, tmp_path)
    assert finding.holds and finding.deviation == "refused"


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["infonce", "moco_v2"])
def test_negatives_are_global_over_two_processes(objective, tmp_path):
    """Or the loss and the state of two processes would be others than those of one."""
    config = tiny_run(TrainConfig(objective=objective, norm="gn_ws"))
    one, two = (
        run_tasks(config, tmp_path, ["replicated"], 1, processes)["replicated"]
        for processes in (1, 2)
    )
    limit = rounding.rounding(config, tmp_path, one, "replicated")
    assert limit.apart(two, one) <= limit.tolerance


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["simsiam", "moco_v2", "infonce", "rotation"])
def test_each_objective_resumes_exactly_and_cuts_exactly_or_not_at_all(
    objective, tmp_path
):
    for claim in ("resume", "pieces"):
        config = TrainConfig(objective=objective)
        finding = verify.check(claim, config, tmp_path)
        assert finding.holds, finding


@pytest.mark.parametrize("given", [["program", "loss"], ["program,loss"]])
def test_claims_have_spaces_or_commas_between_them(given):
    assert verify.parse(["--claims", *given, "--norm=bn"])[1] == ["program", "loss"]


@pytest.mark.slow
@pytest.mark.parametrize("norm, code", [("gn_ws", 0), ("bn", 1)])
def test_numbers_and_the_negative_control(norm, code, monkeypatch, capsys):
    claims = "--claims=independence,control"
    assert status(monkeypatch, f"--norm={norm}", claims) == code
    assert "holds" in capsys.readouterr().out  # the control, for both


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--claims=foo"], "claims has 'foo'"),
        (["--claims", "--norm=bn"], "claims is empty; choose from independence"),
        (["--norm=gnws"], "invalid choice 'gnws'"),
        (["--config=missing.py"], "missing.py"),
        (["--claims=program", "--model.width=0.3"], "width 0.3"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    arguments, sentence, monkeypatch, capsys
):
    assert status(monkeypatch, *arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.slow
@pytest.mark.timeout(1800)  # four programs of several views
@pytest.mark.parametrize(
    "norm, claim", [("bn", "pieces"), ("gn_ws", "resume"), ("gn_ws", "views")]
)
def test_claims_on_the_training_step_hold(norm, claim, tmp_path):
    finding = verify.check(claim, TrainConfig(norm=norm), tmp_path)
    assert finding.holds, finding.deviation


def test_claims_on_the_training_step_have_the_views_of_the_run(tmp_path):
    """Of many views a few, because the claims run a dozen programs."""
    flags = ["--views.count=8", "--views.small=4", "--views.targets=pairs"]
    config, _ = verify.parse([*SMALL, *flags, "--views.small-predictor=shared"])
    views = tiny_run(config).views
    assert views == ViewsConfig(3, "pairs", 1, small_predictor="shared")
    apart = Runs(tiny_run(config), tmp_path)._views(count=4, accumulate=True)
    assert apart == ViewsConfig(4, "pairs", 1, None, views.small_area, "shared", True)


@pytest.mark.parametrize("claim", ["pieces", "views", "devices", "resume"])
def test_claims_on_the_training_step_have_the_dtype_of_the_run(
    claim, tmp_path, monkeypatch
):
    """Their processes have CPU devices, where "auto" would be another."""

    def pretended(config, folder, tasks, *devices, **more):
        seen.add(config.compute_dtype)
        return dict.fromkeys(tasks, {"params/w": one})

    seen = set()
    monkeypatch.setattr(precision, "fast_dtype", lambda device: "bfloat16")
    for module in (training, rounding):
        monkeypatch.setattr(module, "run_tasks", pretended)
    monkeypatch.setattr(
        training, "_memory", lambda *_: training.Memory((7, 8), (10, 30))
    )
    found = verify.check(claim, TrainConfig(norm="gn_ws"), tmp_path)
    assert seen == {"bfloat16", "float32"}  # float32 for the size of its rounding
    assert "small network on CPU devices, in bfloat16" in found.how


@pytest.mark.parametrize(
    "apart, flat", [((7, 8), True), ((7, 12), False), ((np.nan, np.nan), True)]
)
def test_memory_that_grows_with_views_one_at_a_time_is_a_failure(apart, flat):
    assert training.Memory(apart, together=(10, 30)).is_flat == flat


def test_small_views_are_no_larger_than_the_images_of_an_analysis():
    flags = ["--views.small=1", "--views.small-size=48", "--data.image-size=64"]
    config, _ = verify.parse([*SMALL, *flags])
    few, _ = for_analysis(config, 32)
    assert few.views.small_size == 32


def test_bn_is_checked_with_an_optimizer_that_does_not_amplify_rounding():
    recipe = load_config("configs/cifar10_cpu.py", "bn")
    assert recipe.optim.name == "muon" and tiny_run(recipe).optim.name == "lars"
    assert "LARS instead of muon" in other_optimizer(recipe)
    gn_ws = load_config("configs/cifar10_cpu.py", "gn_ws")
    assert tiny_run(gn_ws).optim.name == "muon" and not other_optimizer(gn_ws)
    simsiam = dataclasses.replace(gn_ws, objective="simsiam")
    assert tiny_run(simsiam).optim.name == "lars" and other_optimizer(simsiam)


def test_a_norm_of_a_part_that_the_objective_leaves_out_does_not_count():
    config = TrainConfig(objective="moco_v2", norm="gn_ws", predictor_norm="bn")
    assert uses_batch_statistics(config) and not trains_with_batch_statistics(config)


def test_a_deviation_is_relative_to_its_array():
    whole = {"params/w": np.array([1.0, 100.0]), "params/b": np.zeros(2)}
    other = {"params/w": np.array([1.0, 101.0]), "params/b": np.array([0.0, 1e-3])}
    assert rounding.deviation(other, whole) == pytest.approx(0.01)
    assert rounding.deviation(whole, whole) == 0
    broken = whole | {"params/w": np.array([np.nan, 0.0])}
    for a, b in ((broken, whole), (whole, broken), (broken, broken)):
        assert rounding.deviation(a, b) == np.inf  # runs that diverge show nothing


def test_a_batch_of_one_that_is_refused_is_not_measured(monkeypatch):
    report = NumericalReport(0.0, 0.0, None)  # as with --bn-stat-groups=2
    monkeypatch.setattr(network, "numerical_independence", lambda *_: report)
    outputs = (print, np.zeros((4, 8, 8, 3)), None)
    monkeypatch.setattr(network, "outputs_of_few", lambda *_: outputs)
    finding = network.numerical_claim(TrainConfig())
    assert finding.holds and "alone not measured" in finding.deviation


HLO = """
FunctionNames
1 "train_step"
2 "_moments"

FileLocations
1 {file_name_id=1 function_name_id=1 line=3}
2 {file_name_id=1 function_name_id=2 line=7}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}

  %a = f32[3,4]{1,0} fusion(%x), metadata={op_name="jit(f)/transpose(jvp(g))/dot"}
  %b = bf16[8]{0} fusion(%x), metadata={op_name="jit(f)/reduce_sum" stack_frame_id=2}
  %c = bf16[8]{0} copy(%b)
  ROOT %r = (f32[3,4]{1,0}, /*index=1*/bf16[8]{0}) all-reduce(%a, %c), channel_id=1
"""


def test_collectives_are_read_with_bytes_and_purpose():
    gradient, statistics = collectives(HLO)
    assert (gradient.bytes, statistics.bytes) == (48, 16)
    assert statistics.functions == ("_moments", "train_step")
    assert communication.purpose(gradient, {"": {12}}) == "gradient"
    assert communication.purpose(gradient, {"": {13}}) == "unknown"
    assert communication.purpose(statistics, {"": {12}}) == "batch statistics"


def test_a_ring_moves_nearly_twice_the_bytes():
    arm = {"collectives": 1, "bytes": {"gradient": 8_000_000}, "parameters": 2_000_000}
    text = communication.table("net", {"gn_ws": arm})
    assert "14.00 on 8, 15.75 on 64, 15.97 on 512" in text


def test_a_mixing_place_without_a_known_purpose_is_named():
    place = Place("mixes", "sort", "/a/byol_bnfree/models/heads.py:3:4 (f)", False)
    assert places.purpose(place) == f"elsewhere: {place}"
    unjudged = Place("unknown", "gather", "/a/byol_bnfree/losses.py:1:2 (top_k)", True)
    assert places.purpose(unjudged).startswith("elsewhere")


def test_the_claims_run_on_the_norms_that_were_asked_for():
    config = tiny.config(norm="gn_ws", encoder_norm="bn")
    assert tiny_run(config).encoder_norm == "bn"


def test_a_distance_is_that_of_the_furthest_part_of_the_state():
    whole = {"params/w": np.array([3.0, 4.0]), "params/b": np.zeros(2), "step": 4 * one}
    other = whole | {"params/b": np.array([0.0, 0.5])}
    assert rounding.distance(other, whole) == pytest.approx(0.1)
    assert rounding.distance(whole, whole) == 0
    broken = whole | {"params/w": np.array([np.nan, 0.0])}
    assert rounding.distance(broken, whole) == np.inf


def test_in_bfloat16_runs_may_be_twice_its_own_rounding_apart(tmp_path, monkeypatch):
    def in_float32(config, folder, tasks, devices):
        assert config.compute_dtype == "float32"
        return {"replicated": {"params/w": 1.03 * one}}

    monkeypatch.setattr(rounding, "run_tasks", in_float32)
    whole = {"params/w": one}
    found = rounding.rounding(
        TrainConfig(compute_dtype="bfloat16"), tmp_path, whole, "replicated"
    )
    assert found.tolerance == pytest.approx(0.06)
    assert rounding.rounding(TrainConfig(), tmp_path, whole, "").tolerance == 1e-4


@pytest.mark.slow
def test_micro_batches_are_exact_to_the_rounding_of_bfloat16(tmp_path):
    config = TrainConfig(norm="gn_ws", compute_dtype="bfloat16")
    finding = verify.check("pieces", config, tmp_path)
    assert finding.holds and "bfloat16" in finding.deviation, finding.deviation
