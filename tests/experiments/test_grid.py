"""Grids of runs: every arm can be run, and none is lost or done twice."""

import dataclasses

import pytest
from rows import row

from byol_bnfree import InputError
from byol_bnfree.command_line import parse_args
from byol_bnfree.files import append_row, read_rows, write_json
from byol_bnfree.settings.norms import part_norms
from experiments import GRIDS, plan
from experiments.__main__ import main
from experiments.arguments import Arguments
from experiments.choice import shared
from experiments.grid import (
    Arm,
    Run,
    distinct,
    load_experiment,
    make_runs,
    recipe_of,
    settings_checksum,
)
from experiments.places import Places, equal_rows
from experiments.plan import (
    expectation,
    expected_seconds,
    rows_that_count,
    total_of,
)
from experiments.scales import SCALES
from experiments.slots import MACHINE


def test_tau_is_constant_without_a_delay_and_rises_elsewhere_as_in_the_paper():
    arms = load_experiment("target_network").arms(SCALES["paper"])
    constant = {
        arm.name for arm in arms if "--optim.tau-schedule=constant" in arm.flags
    }
    assert constant == {"bn-tau0", "gn_ws-tau0"}


@pytest.mark.parametrize("scale", ["cpu", "paper"])
@pytest.mark.parametrize("name", GRIDS)
def test_every_arm_is_a_configuration_of_its_own(name, scale):
    scale = SCALES[scale]
    runs = make_runs(load_experiment(name), scale, (0, 1))
    assert len({run.name for run in runs}) == len(runs)
    first = [run for run in runs if run.seed == 0]
    assert len({run.settings for run in first}) == len(first)


@pytest.mark.parametrize("scale", ["cpu", "cpu40", "gpu30"])
def test_the_weight_decays_of_rates_matter_at_every_scale(scale):
    """In units of the recipe of long runs. Products with 1e-5 would all be alike."""
    for norm, unit in (("bn", 0.1), ("gn_ws", 0.02)):
        found = [
            parse_args((*SCALES[scale].flags(300), *arm.flags)).optim.weight_decay
            for arm in load_experiment("rates").arms(SCALES[scale])
            if arm.name.startswith(f"{norm}-rate1-")
        ]
        assert found == pytest.approx([unit * x for x in (0, 0.1, 0.5, 1, 5, 10)])


@pytest.mark.parametrize("scale, bn", [("cpu", "0.1"), ("smoke", "1e-06")])
def test_the_map_of_rates_names_the_unit_of_its_scale(scale, bn):
    experiment, scale = load_experiment("rates"), SCALES[scale]
    _, title = experiment.cell_axes(scale)
    assert f"units of {bn} (bn) or 0.02 (gn_ws)" in title
    (one,) = (a for a in experiment.arms(scale) if a.name == "bn-rate1-decay1")
    assert recipe_of(scale, one.flags).optim.weight_decay == float(bn)


def test_a_linear_predictor_and_the_identity_differ_in_their_start_alone():
    experiment, scale = load_experiment("predictor"), SCALES["cpu"]
    flags = {arm.name: arm.flags for arm in experiment.arms(scale)}
    for norm in ("bn", "gn_ws"):
        linear, identity = (
            recipe_of(scale, flags[f"{norm}-{name}"]).model
            for name in ("linear", "identity")
        )
        start = identity.predictor_start
        assert dataclasses.replace(linear, predictor_start=start) == identity
        assert linear != identity


@pytest.mark.parametrize(
    "name", ["norm_comparison", "initialization", "norm_placement", "simclr_norms"]
)
def test_arms_with_lars_have_the_preset_of_their_experiments_epochs(name):
    experiment, scale = load_experiment(name), SCALES["paper"]
    base = scale.flags(experiment.paper_epochs)
    preset = parse_args((*base, "--norm=bn"))
    for arm in experiment.arms(scale):
        found = parse_args((*base, *arm.flags))
        if found.optim.name == "lars":
            assert (found.base_lr, found.optim) == (preset.base_lr, preset.optim)


def test_the_scales_batches_are_those_of_their_recipes():
    for scale in SCALES.values():
        assert parse_args(scale.flags(300)).batch_size == scale.batch_size


@pytest.mark.parametrize("name", GRIDS)
def test_an_arm_that_has_the_name_of_a_norm_is_the_same_everywhere(name):
    """It is the network and the optimizer of `train --norm=NAME` with the recipe."""
    scale = SCALES["cpu"]
    flags, experiment = scale.flags(300), load_experiment(name)
    for arm in experiment.arms(scale):
        if arm.name in ("bn", "gn_ws"):
            ours, plain = (
                parse_args((*flags, *more))
                for more in (arm.flags, (f"--norm={arm.name}",))
            )
            assert part_norms(ours) == part_norms(plain)
            for part in ("model", "optim", "base_lr"):
                assert getattr(ours, part) == getattr(plain, part)


def test_both_arms_of_the_search_have_as_many_trials():
    arms = load_experiment("recipe_search").arms(SCALES["cpu"])
    families = [arm.family for arm in arms]
    assert families.count("bn") == families.count("gn_ws") > 1  # others are no trials


def test_the_checksum_of_settings_ignores_seed_and_folders():
    plain = settings_checksum(["--norm=bn"])
    assert plain == settings_checksum(["--norm=bn", "--seed=3", "--workdir=x"])
    assert plain == settings_checksum(["--norm=bn", "--base-lr=0.08"])  # the default
    parts = [f"--{part}-norm=bn" for part in ("encoder", "projector", "predictor")]
    assert plain == settings_checksum(["--norm=bn", *parts])
    assert plain != settings_checksum(["--norm=bn", "--base-lr=1"])


def test_seeds_are_as_large_as_a_device_can_count():
    with pytest.raises(InputError, match="seeds is .* at most 2,147,483,647"):
        Arguments(names=("norm_comparison",), seeds=(2**31,))


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["norm_comparison", "--shard=4/4"], "shard is '4/4'"),
        (["simclr_norms", "--shard=15/20"], "has 9 different runs, so this"),
        *(
            (["norm_comparison", flag], f"{flag} has no value; give some, or leave it")
            for flag in ("--arms", "--only", "--rows")
        ),
        (["norm_comparison", "--seeds", "1", "1"], "different ones"),
        (["norm_comparison", "--arms", "gnws"], "arm gnws is unknown"),
        (["norm_comparison", "--data-dir=/nonexistent"], "cifar10 is not in"),
        (["rates", "--rows", "3-85"], "give N or N-M from 1 to 84"),
        (["rates", "--rows", "x"], "rows has 'x'"),
        (
            ["rates", "--only", "nothing*"],
            r"no arm of rates fits --only nothing\*; see",
        ),
        (
            ["norm_comparison", "--arms", "bn", "--only", "gn*", "--rows", "1-2"],
            r"fits --arms bn and --only gn\* and --rows 1-2;",
        ),
        (["rates", "rates"], "each once"),
        (["norm_comparison", "heads", "--arms", "gnws"], "see --dry-run for the arms"),
        (["heads", "rates", "--only", "x*"], r"of heads or rates fits --only x\*;"),
        (["heads", "rates", "--rows", "3-85"], "give N or N-M from 1 to 84"),
        (["norm_comparison", "--seeds"], "seeds are none; give different"),
        (["state", "--seeds"], "seeds are none; give different"),
        (["state", "--seeds", "-1"], "seeds are -1; give different"),
        (["state", "--seeds", "1", "1"], "seeds are 1 1; give different"),
        (["report", "--seeds", "0", "1"], "so --seeds cannot be given with it"),
        (["report", "--scale=gpu30"], "so --scale cannot be given with it"),
        (["report", "--results=/tmp/nowhere/x"], "there is no such folder; give one"),
        (["rates", "report"], "report must be the only name"),
        ([], "give one experiment or more"),
    ],
)
def test_what_cannot_be_is_refused_before_any_run(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        main(arguments)


def test_a_plan_needs_no_data_and_says_of_which_machine_its_time_is(tmp_path, capsys):
    flags = ["--arms", "bn", "--dry-run", "--data-dir=/nonexistent"]
    main(["norm_comparison", *flags, f"--results={tmp_path}", f"--out={tmp_path}"])
    said = " ".join(capsys.readouterr().out.split())
    assert "expected: 11.7 minutes, one run at a time, by earlier runs where" in said
    assert "and otherwise by 2 CPU cores with AVX-512 and the cpu" in said
    assert "without AVX-512 take about 2.4 times as long" in said


@pytest.mark.parametrize("length", [{"steps": None}, {"steps": 1000}])
def test_the_time_left_of_an_interrupted_run_is_that_of_its_open_part(tmp_path, length):
    experiment, scale = load_experiment("norm_comparison"), SCALES["cpu"]
    run = make_runs(experiment, scale, (0,))[0]
    places = Places(tmp_path, tmp_path, None)
    assert expectation(scale, places, MACHINE)(run) == scale.seconds
    workdir = places.workdir(run)
    (workdir / "checkpoints").mkdir(parents=True)
    write_json(workdir / "config.json", {"epochs": 16.0, **length})
    append_row(workdir / "metrics.jsonl", {"step": 750, "epoch": 12.0})
    append_row(workdir / "metrics.jsonl", {"step": 750, "knn/top1": 0.5})
    assert expectation(scale, places, MACHINE)(run) == scale.seconds / 4


def test_times_of_one_core_are_shorter_on_several(tmp_path, capsys, monkeypatch):
    experiment, scale = load_experiment("norm_comparison"), SCALES["cpu"]
    runs = make_runs(experiment, scale, (0, 1))
    done, later = (run for run in runs if run.arm == "bn")
    places = Places(tmp_path, tmp_path, None)
    machine = {"commit": "c", "cpu": "a cpu", "cores": 1}
    places.rows(done.experiment).parent.mkdir()
    old = row(done, 0.5, wall_seconds=1200.0, environment=machine)
    append_row(places.rows(done.experiment), old)
    monkeypatch.setattr(plan, "usable_cores", lambda: 4)
    assert expectation(scale, places, MACHINE)(later) == 300
    where = [f"--results={tmp_path}", f"--out={tmp_path}"]
    main(["norm_comparison", "--arms", "bn", "--seeds", "1", "--dry-run", *where])
    assert "expected: 10.0 minutes" in capsys.readouterr().out


def chosen(capsys, *arguments: str) -> list[str]:
    """Names of the arms that a plan lists."""
    main([*arguments, "--scale=smoke", "--dry-run"])
    cells = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    return [c[2].strip() for c in cells if len(c) > 5 and c[1].strip()]


def test_patterns_and_rows_choose_arms(capsys):
    name = "loss_normalization"
    assert chosen(capsys, name, "--only", "*-l2", "bn-none") == [
        "bn-l2",
        "bn-none",
        "gn_ws-l2",
    ]
    assert chosen(capsys, name, "--rows", "1", "7-8") == [
        "bn-l2",
        "gn_ws-none",
        "gn_ws-batchnorm",
    ]
    both = chosen(capsys, name, "--only", "gn_ws-*", "--rows", "4-5")
    assert both == ["gn_ws-l2"]
    several = chosen(capsys, name, "simclr_norms", "--rows", "1")
    assert several == ["bn-l2", "bn-bn"]


def test_experiments_without_an_arm_that_fits_are_skipped_and_named(capsys):
    names = ("norm_comparison", "loss_normalization", "simclr_norms")
    flags = ("--scale=smoke", "--dry-run")
    main([*names, "--only", "bn-l*", *flags])
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith("no arm fits --only bn-l*: norm_comparison, simclr_norms")
    assert chosen(capsys, *names, "--arms", "bn", "bn-l2") == ["bn", "bn-l2"]
    main([*names[:2], "--rows", "9", *flags])  # of the first, as the second has eight
    assert "9: loss_normalization" in capsys.readouterr().out


OWN = """
from flax import linen as nn


class Small(nn.Module):
    layers: tuple

    @nn.compact
    def __call__(self, images, train=False):
        x = self.layers.conv(16, (3, 3), 2, name="conv1")(images)
        return nn.relu(self.layers.norm(name="norm1")(x, train)).mean((1, 2))


def small(layers):
    return Small(layers)


def fails(layers):
    return Small(layers.unknown)


def takes_nothing():
    return Small(None)
"""


def test_a_model_of_ones_own_is_in_every_arm(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    grid_of = ["norm_comparison", "--scale=smoke", "--dry-run"]
    main([*grid_of, "--model=mine.py:small"])
    text = "".join(capsys.readouterr().out.split())
    assert text.count("--model=") == text.count("--seed=") > 1
    assert "theencoderissmallofmine.pyinstead" in text.replace("│", "")
    monkeypatch.chdir(tmp_path)  # `main` goes to the recipes
    with pytest.raises(InputError, match="has no function 'large'"):
        main([*grid_of, "--model=mine.py:large"])
    for bad in ("fails", "takes_nothing"):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=f"mine.py:{bad}"):
            main([*grid_of, f"--model=mine.py:{bad}"])


def test_runs_of_a_model_go_with_its_code_and_not_its_place(tmp_path):
    a, b, changed = (tmp_path / f"{name}.py" for name in ("a", "b", "changed"))
    a.write_text(OWN)
    b.write_text(OWN)
    changed.write_text(OWN.replace("16", "32"))
    plain, *own = (
        settings_checksum(SCALES["smoke"].flags(300) + flags)
        for flags in ((), *((f"--model={file}:small",) for file in (a, b, changed)))
    )
    assert own[0] == own[1] and len({plain, *own}) == 3


@pytest.mark.slow
def test_a_model_of_ones_own_is_compared_like_ours(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    some = ["norm_comparison", "--scale=smoke", "--arms", "bn", "gn_ws"]
    main([*some, "--model=mine.py:small", "--out=out"])
    folder = tmp_path / "out" / "norm_comparison"
    rows = read_rows(folder / "results.jsonl")
    assert [row["arm"] for row in rows] == ["bn", "gn_ws"]
    assert {"encoder/conv1"} <= {*rows[0]["layers"]["trained"]}
    text = (folder / "report.md").read_text()
    assert "the encoder is small of mine.py instead" in text


def test_arms_of_equal_settings_are_one():
    arms = [Arm("a", ("--norm=bn",)), Arm("b", ("--norm=bn", "--seed=1"))]
    assert [arm.name for arm in distinct(SCALES["cpu"], arms)] == ["a"]


def test_shards_share_the_grid_out(capsys):
    def names(shard):
        smoke = ["norm_comparison", "--scale=smoke", "--seeds", "0", "1", "--dry-run"]
        main([*smoke, f"--shard={shard}"])
        cells = [line.split("│") for line in capsys.readouterr().out.splitlines()]
        return [
            (c[2].strip(), c[3].strip()) for c in cells if len(c) > 5 and c[1].strip()
        ]

    parts = [names(f"{i}/3") for i in range(3)]
    assert sorted(sum(parts, [])) == sorted(names("0/1"))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1 < min(lengths)


def test_equal_runs_are_in_one_part_and_no_arm_stays_on_one_machine():
    runs = [
        Run(experiment, "cpu", arm, seed, (), arm)
        for experiment in ("first", "second")
        for seed in range(4)
        for arm in ("bn", "gn_ws")
    ]
    parts = [shared(runs, f"{i}/2") for i in range(2)]
    assert sorted(sum(parts, [])) == sorted(runs)
    trained = [{run.training for run in part} for part in parts]
    assert not trained[0] & trained[1] and len(trained[0]) == len(trained[1]) == 4
    assert all({run.arm for run in part} == {"bn", "gn_ws"} for part in parts)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_no_machine_chooses_the_type_of_activations(scale):
    """So rows of any machine stand in one table, and a report needs no other."""
    for norm in ("--norm=bn", "--norm=gn_ws"):
        assert recipe_of(scale, (norm,)).compute_dtype in ("float32", "bfloat16")


def test_runs_in_another_type_of_activations_are_runs_of_other_settings():
    checksums = [
        settings_checksum(["--norm=bn", f"--compute-dtype={dtype}"])
        for dtype in ("float32", "bfloat16")
    ]
    assert len(set(checksums)) == 2


def test_a_trial_of_fewer_epochs_is_expected_to_take_less_time():
    scale = SCALES["cpu"]
    trial, *_ = make_runs(load_experiment("recipe_search"), scale, [0])
    full, *_ = make_runs(load_experiment("norm_comparison"), scale, [0])
    assert "--epochs=4" in trial.flags
    assert expected_seconds(full, scale, []) == scale.seconds
    assert expected_seconds(trial, scale, []) == scale.seconds * 4 / 16


def test_a_run_on_one_of_two_cores_is_expected_to_take_twice_as_long():
    """Measured times count by the cores that they were measured on."""
    scale = SCALES["cpu"]
    (run, *_) = make_runs(load_experiment("norm_comparison"), scale, [0])
    assert expected_seconds(run, scale, [], cores=1) == 2 * scale.seconds
    for cores, seconds in ((1, 100.0), (2, 200.0), (None, 100.0)):
        measured = row(run, 0.5, wall_seconds=100.0, environment={"cores": cores})
        assert expected_seconds(run, scale, [measured], cores=1) == seconds
        assert expected_seconds(run, scale, [measured]) == 100.0


def test_a_time_is_that_of_runs_with_equal_settings_and_the_same_end(tmp_path):
    """A recipe that changed, or a stop that is not asked for, takes another time."""
    scale, name = SCALES["cpu"], "norm_comparison"
    run, other, *_ = make_runs(load_experiment(name), scale, [0])
    older = row(run, 0.5, wall_seconds=7.0, settings="older")
    assert expected_seconds(run, scale, [older]) == scale.seconds
    assert expected_seconds(other, scale, [row(run, 0.5)]) == scale.seconds
    file = tmp_path / name / "results.jsonl"
    append_row(file, row(run, None, wall_seconds=7.0, collapsed="at step 3"))
    for stop, seconds in ((False, scale.seconds), (True, 7.0)):
        places = Places(tmp_path, tmp_path, None, stop_collapsed=stop)
        assert expectation(scale, places, MACHINE)(run) == seconds
        rows = rows_that_count(places, name)
        assert expected_seconds(run, scale, rows) == seconds


def test_the_newest_row_of_equal_runs_goes_first_wherever_it_stands(tmp_path):
    scale, name = SCALES["cpu"], "norm_comparison"
    run, *_ = make_runs(load_experiment(name), scale, [0])
    for year in (2030, 2020):
        found = row(run, 0.5, time=f"{year}-01-01T00:00:00+00:00")
        append_row(tmp_path / name / "results.jsonl", found)
    found = equal_rows(tmp_path, run.scale, run.settings, first=name)
    assert [row["time"][:4] for row in found] == ["2030", "2020"]


def test_the_time_of_another_batch_is_unknown_until_it_is_measured():
    scale = SCALES["cpu"]
    runs = make_runs(load_experiment("batch_size"), scale, [0])
    (run,) = (run for run in runs if run.arm == "bn-batch-8")
    assert expected_seconds(run, scale, []) is None
    assert expected_seconds(run, scale, [row(run, 0.5)]) == 200.0
    assert total_of([60.0, None], 60, ".1f", "min") == "more than 1.0 min"
    assert total_of([None], 60, ".1f", "min") == "?"
    assert total_of([], 60, ".1f", "min") == "0.0 min"
