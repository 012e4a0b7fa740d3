"""What cannot fit into memory is refused before work, and running out is a sentence."""

from functools import partial

import pytest

from byol_bnfree import InputError
from byol_bnfree.command_line import exit_on_error
from byol_bnfree.config import DataConfig, HeadConfig, ModelConfig, TrainConfig
from byol_bnfree.data.sources import open_source
from byol_bnfree.machine import memory
from byol_bnfree.machine.control_groups import groups_of
from byol_bnfree.training.parts import DataShape
from byol_bnfree.training.program import build_program


def test_what_does_not_fit_is_refused_with_both_sizes():
    memory.check_memory({"a": 1.0, "b": 2.0}, "shrink it", available=3)
    with pytest.raises(InputError, match=r"a \(4.0 GB\).*3.0 GB of memory.*shrink it"):
        memory.check_memory({"a": 4e9}, "shrink it", available=3 * 10**9)
    assert 2**28 < memory.machine_bytes() < 2**50


@pytest.mark.parametrize(
    "own, files, expected",
    [
        ("0::/slurm/job_7/step_0", {"slurm/job_7/memory.max": "1000"}, 1000),
        ("0::/", {"memory.max": "2000"}, 2000),
        ("0::/", {"memory.max": "max"}, None),
        # In a container the path is that outside of it.
        ("0::/docker/ab", {"memory.max": "3000"}, 3000),
        (
            "9:memory:/slurm/job_7\n8:cpu:/x",
            {
                "memory/memory.limit_in_bytes": str(2**63 - 4096),
                "memory/slurm/job_7/memory.limit_in_bytes": "4000",
            },
            4000,
        ),
        ("", {}, None),
    ],
)
def test_the_limit_of_a_job_is_that_of_its_control_groups(
    own, files, expected, tmp_path, monkeypatch
):
    whole = memory.machine_bytes()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(own)
    found = partial(groups_of, root=tmp_path, own=tmp_path / "own")
    monkeypatch.setattr(memory, "groups_of", found)
    assert memory.machine_bytes() == expected or (
        expected is None and memory.machine_bytes() >= whole
    )


def test_a_state_larger_than_the_memory_is_refused_before_it_is_compiled():
    head = HeadConfig(hidden=10**7, depth=3)
    model = ModelConfig(name="resnet8", projector=head, predictor=HeadConfig(out=256))
    config = TrainConfig(steps=100, model=model)
    with pytest.raises(InputError, match="the training state .* cannot fit"):
        build_program(config, DataShape(1000, 10, (8, 8, 3)))


def test_shapes_larger_than_the_memory_are_refused_before_they_are_drawn():
    data = DataConfig(shapes_train=2**31 - 1)
    with pytest.raises(InputError, match="--data.shapes-train"):
        open_source(TrainConfig(data=data), "train")


@pytest.mark.parametrize(
    "error", [MemoryError("9 TiB"), RuntimeError("RESOURCE_EXHAUSTED: 9 TiB\nmore")]
)
def test_running_out_of_memory_is_one_sentence(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        exit_on_error(main)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "9 TiB" in said and "--micro-batches" in said and "more" not in said


def test_other_errors_are_not_hidden():
    def main():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        exit_on_error(main)
