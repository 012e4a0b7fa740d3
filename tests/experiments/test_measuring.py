"""Programs that measure refuse wrong arguments before they measure or write."""

import dataclasses
from importlib import import_module
from pathlib import Path

import pytest

from byol_bnfree.errors import InputError, flag
from byol_bnfree.flags import cli
from experiments.measuring import check_folder
from experiments.scaling import __main__ as scaling
from experiments.scaling.estimate import Machine
from experiments.throughput import device_step
from experiments.views import cost

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MODULES = {
    ".".join(path.relative_to(EXPERIMENTS).with_suffix("").parts): path.read_text()
    for path in EXPERIMENTS.rglob("*.py")
}
MEASURING = (
    *("decoding.__main__", "decoding.loaders", "dense.arguments", "views.cost"),
    "evaluation_speed.__main__",
    *("throughput.__main__", "throughput.cliffs", "throughput.device_step"),
    *("throughput.first_step", "throughput.hotspots", "throughput.measure"),
    "throughput.overhead",
)
BELOW_0 = ("budget",)  # what is left of a time
ZERO = ("small",)  # no small crops


def arguments_of(module: str):
    return import_module(f"experiments.{module}").Arguments


def refused(settings, name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{flag(name)} is "):
        dataclasses.replace(settings, **{name: value})


def numbers(settings) -> list[str]:
    kinds = ("int", "float", "int | None", "float | None")
    return [
        field.name
        for field in dataclasses.fields(settings)
        if str(getattr(field.type, "__name__", field.type)) in kinds
    ]


@pytest.mark.parametrize("module", [*MEASURING, "scaling.estimate"])
def test_numbers_are_finite_and_positive(module):
    kind = Machine if module == "scaling.estimate" else arguments_of(module)
    found = numbers(kind)
    assert found
    for name in found:
        refused(kind(), name, float("nan"))
        refused(kind(), name, float("inf"))
        if name not in BELOW_0:
            refused(kind(), name, -5)
        if name not in (*BELOW_0, *ZERO):
            refused(kind(), name, 0)


@pytest.mark.parametrize(
    "module, name",
    [
        *(("throughput.cliffs", "axes"), ("evaluation_speed.__main__", "contest")),
        *(("views.cost", "norms"), ("dense.arguments", "seeds")),
    ],
)
def test_a_list_of_what_is_measured_is_not_empty(module, name):
    refused(arguments_of(module)(), name, ())


def test_nothing_is_measured_twice():
    dense = arguments_of("dense.arguments")
    refused(dense(), "norms", ("bn", "bn"))
    refused(dense(), "seeds", (0, 0))
    with pytest.raises(InputError, match="seeds are -1 0; give different ones from 0"):
        dense(seeds=(-1, 0))


def test_a_share_is_at_most_1():
    refused(Machine(), "utilization", 1.5)


@pytest.mark.parametrize(
    "module, given",
    [
        *(
            (f"throughput.{name}", "--workload=cifar_thn")
            for name in ("measure", "hotspots")
        ),
        ("throughput.cliffs", "--axes=widht"),
        ("dense.arguments", "--norms=bm"),
        ("layers", ""),
    ],
)
def test_the_parser_refuses_unknown_names(module, given, capsys):
    with pytest.raises(SystemExit) as ended:
        cli(arguments_of(module), args=given.split())
    assert ended.value.code == 2
    assert given.partition("=")[0] in capsys.readouterr().err


def test_a_workload_of_accelerators_must_be_known():
    given = device_step.Arguments(workload="tiny", platform="cpu")
    with pytest.raises(InputError, match="'tiny'; on a device choose of resnet18_32"):
        device_step.main(given)


def test_a_machine_must_hold_the_state():
    with pytest.raises(InputError, match="--memory-gb is 0.1, but the state takes 0.4"):
        scaling.main(scaling.Arguments(Machine(memory_gb=0.1)))


def test_costs_of_views_are_written_beside_the_program_or_not_measured(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert cost.Arguments().out == EXPERIMENTS / "views" / "cost.json"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--out cannot be .*file is a file"):
        cost.main(cost.Arguments(out=tmp_path / "file" / "cost.json"))
    with pytest.raises(InputError, match="--out is .* a folder; give a file in it"):
        cost.main(cost.Arguments(out=tmp_path))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    check_folder("out", tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="--out cannot be .* give another folder"):
        check_folder("out", tmp_path / "file")


@pytest.mark.parametrize(
    "module", [name for name, text in MODULES.items() if '__main__":\n' in text]
)
def test_every_program_shows_errors_without_a_traceback(module):
    _, _, end = MODULES[module].partition('if __name__ == "__main__":\n')
    assert end.strip().startswith("exit_on_error(")
