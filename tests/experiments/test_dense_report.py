"""The arms of the dense comparison, its table and its figure."""

import dataclasses
import json
import threading

import numpy as np
import pytest

from byol_bnfree.data.dense.shapes import Scenes
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.diverged import FitDiverged
from byol_bnfree.files import read_rows
from experiments.dense import comparison as dense
from experiments.dense.arguments import FOLDER, Arguments
from experiments.dense.arms import (
    FROZEN_NORMS,
    NORMS,
    RATES,
    SMALL,
    TUNED,
    USUAL,
    Arm,
    arms,
    settings_of,
)
from experiments.dense.report import (
    SHOWN,
    by_chance,
    differences,
    draw,
    spread,
    table,
    tables,
    with_tables,
)
from experiments.pages.lock import writing

ROWS = dense.of_settings(Arguments())


def row(norm, encoder, figure, seed=0, batch=USUAL, tuned="fine-tuned"):
    arm = Arm(seed, "segmentation", norm, encoder, tuned, batch)
    found = {"figures": {"miou": figure}, "cpu_seconds": 40.4, "chosen": {"rate": 0.03}}
    return {"arm": arm._asdict(), "trials": []} | found


def test_both_norms_have_equally_many_trials_and_pictures():
    for pair in zip(*(arms((0,), (norm,)) for norm in NORMS), strict=True):
        first, second = (settings_of(arm, 6400) for arm in pair)
        assert first == second
        assert first.steps * first.batch_size == 6400


def test_a_batch_of_2_takes_four_times_the_steps_at_a_quarter_of_the_rates():
    usual, small = (
        settings_of(Arm(0, "depth", "bn", "untrained", "fine-tuned", size), 6400)
        for size in (8, 2)
    )
    assert (small.steps, small.trial_steps) == (4 * usual.steps, 4 * usual.trial_steps)
    np.testing.assert_allclose(4 * np.array(small.rates), usual.rates)


def test_frozen_norms_are_all_that_their_arms_change():
    small = {arm for arm in arms((0,)) if arm.batch == SMALL}
    frozen = {arm for arm in small if arm.tuned == FROZEN_NORMS}
    trained = {arm._replace(tuned="fine-tuned") for arm in frozen}
    assert trained == small - frozen
    assert {arm.task for arm in frozen} == set(SHOWN)
    for arm in frozen:
        usual = settings_of(arm._replace(tuned="fine-tuned"), 9600)
        assert settings_of(arm, 9600) == dataclasses.replace(usual, norms="frozen")


def test_the_table_has_means_and_half_ranges_by_norm():
    rows = [row("bn", "untrained", 0.2), row("bn", "untrained", 0.3, seed=1)]
    (cells,) = table([*rows, row("gn_ws", "untrained", 0.25)]).rows
    assert list(cells[3:6]) == ["untrained", "25.0 +/- 5.0 (2)", "25.0"]
    assert spread([]) == ""


def test_constant_answers_are_those_of_the_test_scenes():
    scenes = Scenes("test", dense.SCENES["test"], dense.SIDE)
    examples = [scenes.example(index) for index in range(len(scenes))]
    wall = np.mean([example["mask"] == 0 for example in examples])
    known = SHOWN["segmentation"].constant
    np.testing.assert_allclose(known, wall / len(scenes.class_names), atol=1e-4)
    depth = np.stack([example["depth"] for example in examples])
    errors = [np.mean(abs(a - depth) / depth) for a in np.linspace(1, 4, 61)]
    np.testing.assert_allclose(SHOWN["depth"].constant, min(errors), atol=1e-4)


def test_the_readme_has_the_tables_of_the_results():
    text = (FOLDER / "README.md").read_text()
    assert with_tables(text, ROWS) == text
    assert all(text.count(f"<!-- {name} -->") == 1 for name in tables(ROWS))
    assert with_tables(text, ROWS[:1]) != text


def test_differences_are_paired_by_seed():
    untrained, trained = (0.2, 0.5, 0.1), (0.23, 0.51, 0.15)
    rows = [
        row("bn", kind, figure, seed)
        for kind, figures in (("untrained", untrained), ("pre-trained", trained))
        for seed, figure in enumerate(figures)
    ]
    # By hand: 3, 1, 5 points have mean 3, deviation 2, and 4.303 / sqrt(3) = 2.484.
    (cells,) = differences(rows).rows
    assert list(cells[2:]) == ["pre-trained - untrained", "+3.0 [-2.0, +8.0] (n 3)", ""]
    small = [row("bn", "pre-trained", 0.2, batch=2)]
    frozen = [row("bn", "pre-trained", 0.26, batch=2, tuned=FROZEN_NORMS)]
    *_, batches, norms, both = differences([*rows, *small, *frozen]).rows
    assert list(batches[2:4]) == [
        "pre-trained, batch of 2 - batch of 8",
        "-3.0 (n 1)",
    ]
    assert list(norms[1:4]) == [
        "frozen norms",
        "pre-trained, frozen norms - trained norms, batch of 2",
        "+6.0 (n 1)",
    ]
    assert list(both[1:4]) == [
        "frozen norms",
        "pre-trained, frozen norms, batch of 2 - batch of 8",
        "+3.0 (n 1)",
    ]


def test_the_number_of_intervals_says_how_many_would_exclude_0_by_chance():
    pair = [("untrained", 0.2), ("pre-trained", 0.3)]
    rows = [row(n, k, f, seed) for n in NORMS for k, f in pair for seed in (0, 1)]
    said = "The 2 intervals are not corrected for their number: about 0.1 would"
    assert by_chance(differences(rows)).startswith(said)
    assert said in tables(rows)["differences"]
    one_seed = [found for found in rows if found["arm"]["seed"] == 0]
    assert by_chance(differences(one_seed)) == ""  # it has no intervals


def test_a_command_reports_the_rows_that_another_adds_while_it_waits(
    tmp_path, monkeypatch
):
    results, written = tmp_path / "results.jsonl", []
    lines = (FOLDER / "results.jsonl").read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:-1]))
    arguments = Arguments(results=results)
    monkeypatch.setattr(dense, "write_report", lambda rows, _: written.append(rows))
    early = dense.of_settings(arguments)
    command = threading.Thread(target=dense.report, args=(early, arguments))
    with writing(tmp_path):
        command.start()
        command.join(0.5)
        assert command.is_alive() and not written
        results.write_text("".join(lines))
    command.join()
    assert written == [dense.of_settings(arguments)] != [early]


def test_pictures_that_fill_no_batch_are_refused():
    arm = next(arms([0]))
    assert settings_of(arm, 32).trial_steps == 1
    with pytest.raises(InputError, match="--pictures is 10, .* give 32 or more"):
        settings_of(arm, 10)


def test_every_row_chose_its_rate_on_held_out_pictures():
    for found in ROWS:
        if found["arm"]["seed"] == TUNED:
            assert len(found["trials"]) >= len(RATES)
            assert found["chosen"] in found["trials"]
        else:
            assert found["trials"] == []


def test_the_figure_has_a_panel_for_each_task():
    rows = [row(norm, "untrained", 0.2) for norm in NORMS]
    figure = draw([*rows, row("bn", "pre-trained", 0.2, batch=2)])
    assert [axes.get_title() for axes in figure.axes] == list(SHOWN)


def test_a_row_from_before_a_setting_has_its_default(tmp_path):
    arm = Arm(0, "depth", "bn", "untrained", "fine-tuned", USUAL)
    settings = dense.asked_settings(arm, Arguments())
    assert settings.pop("crop") == "random"
    old = row("bn", "untrained", 0.1) | {"arm": arm._asdict(), "settings": settings}
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(old) + "\n")
    assert dense.of_settings(Arguments(results=file)) == [old]


def test_a_best_rate_at_an_end_of_an_older_row_is_measured_again(tmp_path):
    arm, arguments = next(arms([0])), Arguments()
    settings = dense.asked_settings(arm, arguments)
    assert settings.pop("further_rates") > 0
    file, old = tmp_path / "results.jsonl", row("bn", "untrained", 0.1)
    old |= {"settings": settings, "trials": [{"rate": r} for r in settings["rates"]]}
    for rate in settings["rates"]:
        chosen = old | {"chosen": {"rate": rate}}
        inside = min(settings["rates"]) < rate < max(settings["rates"])
        assert dense.is_of(chosen, arm, arguments) == inside
        # Until then it is reported, and the table says so.
        file.write_text(json.dumps(chosen) + "\n")
        assert dense.of_settings(Arguments(results=file)) == [chosen]
        (cells,) = table([chosen]).rows
        assert cells[4] == ("10.0" if inside else "10.0 (end)")
    exhausted = chosen | {"settings": dense.asked_settings(arm, arguments)}
    assert dense.is_of(exhausted, arm, arguments)


def test_other_settings_and_older_rows_are_not_reported(tmp_path):
    arm = Arm(0, "segmentation", "bn", "untrained", "fine-tuned", USUAL)
    rows = [
        row("bn", "untrained", figure)
        | {"settings": dense.asked_settings(arm, Arguments(pictures=pictures))}
        for pictures, figure in ((9600, 0.1), (9600, 0.2), (3200, 0.3))
    ]
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert dense.of_settings(Arguments(results=file)) == [rows[1]]


def measured(results, monkeypatch, seeds):
    """Rows of a comparison whose fits choose the second rate of several."""

    def measure(arm, settings, arguments):
        chosen = {"rate": settings.rates[len(settings.rates) > 1]}
        return {"chosen": chosen, "tried": settings.rates}

    monkeypatch.setattr(dense, "measure", measure)
    monkeypatch.setattr(dense, "write_report", lambda found, folder: None)
    dense.carry_out(Arguments(seeds=seeds, norms=("bn",), results=results))
    return read_rows(results)


def test_other_seeds_take_the_rate_that_seed_0_chose(tmp_path, monkeypatch):
    rows = measured(tmp_path / "results.jsonl", monkeypatch, (1, 0))
    rates = {Arm(**found["arm"]): found["settings"]["rates"] for found in rows}
    assert len(rows) == len(rates) == 2 * len(list(arms((0,), ("bn",))))
    assert all(found["tried"] == found["settings"]["rates"] for found in rows)
    for arm, own in rates.items():
        first = rates[arm._replace(seed=TUNED)]
        assert own == (first if arm.seed == TUNED else first[1:2])
    again = measured(tmp_path / "results.jsonl", monkeypatch, (0, 1))
    assert again == rows


def test_rates_that_no_seed_chose_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--seeds is 1 2, but .* add 0 to --seeds"):
        measured(tmp_path / "results.jsonl", monkeypatch, (1, 2))


def test_an_arm_that_diverged_does_not_stop_the_others(tmp_path, monkeypatch):
    def measure(arm, settings, arguments):
        if arm.task == "depth":
            raise FitDiverged("the fit with rate 3 diverged.")
        return {"figures": {"miou": 0.2}, "chosen": {"rate": settings.rates[1]}}

    monkeypatch.setattr(dense, "measure", measure)
    monkeypatch.setattr(dense, "write_report", lambda found, folder: None)
    results = tmp_path / "results.jsonl"
    arguments = Arguments(seeds=(0,), norms=("bn",), results=results)
    with pytest.raises(InputError, match="no result. 0 depth bn .* rate 3 diverged"):
        dense.carry_out(arguments)
    tasks = [row["arm"]["task"] for row in read_rows(results)]
    wanted = [arm.task for arm in arms((0,), ("bn",)) if arm.task != "depth"]
    assert tasks == wanted


def reported(results, folder, monkeypatch, **settings):
    """Report with the committed README.md and these results as the usual ones."""
    usual = dataclasses.replace(Arguments(), results=folder / "results.jsonl")
    given = dataclasses.replace(usual, results=results, report=True, **settings)
    monkeypatch.setattr(dense, "Arguments", lambda: usual)
    readme = folder / "README.md"
    readme.write_text("<!-- results -->\nold\n<!-- /results -->\n")
    before = readme.read_text()
    dense.carry_out(given)
    drawn = (folder / "figures" / "accuracy.svg").exists()
    changed = readme.read_text() != before
    assert changed == drawn
    return changed


def stored(file, **settings):
    arm = Arm(0, "segmentation", "bn", "untrained", "fine-tuned", USUAL)
    asked = dense.asked_settings(arm, Arguments(**settings))
    found = row("bn", "untrained", 0.25) | {"settings": asked}
    file.write_text(json.dumps(found) + "\n")
    return file


def test_settings_without_rows_change_no_page(tmp_path, monkeypatch):
    file = stored(tmp_path / "results.jsonl")
    with pytest.raises(InputError, match="no row with --epochs=3 and --pictures=9600"):
        reported(file, tmp_path, monkeypatch, epochs=3)
    assert "old" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "figures").exists()


def test_only_the_usual_settings_and_results_change_the_page(
    tmp_path, monkeypatch, capsys
):
    file = stored(tmp_path / "results.jsonl", epochs=1)
    assert not reported(file, tmp_path, monkeypatch, epochs=1)
    assert "25.0" in capsys.readouterr().out
    other = stored(tmp_path / "other.jsonl")
    assert not reported(other, tmp_path, monkeypatch)
    assert "25.0" in capsys.readouterr().out
    assert reported(stored(file), tmp_path, monkeypatch)
    assert "25.0" in (tmp_path / "README.md").read_text()
