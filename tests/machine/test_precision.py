"""--compute-dtype=auto takes what the hardware is fast at, and keeps it."""

import json
from types import SimpleNamespace

import pytest

import runs
from byol_bnfree import parse_args, train
from byol_bnfree.encoder import load_encoder
from byol_bnfree.machine import precision
from byol_bnfree.machine.precision import fast_dtype, resolve_dtype

DEVICES = {
    "cpu": ("cpu", None, "float32"),
    "tpu": ("tpu", None, "bfloat16"),
    "V100": ("gpu", "7.0", "float32"),
    "T4": ("gpu", "7.5", "float32"),
    "A100": ("gpu", "8.0", "bfloat16"),
    "H100": ("gpu", "9.0", "bfloat16"),
    "B200": ("gpu", "10.0", "bfloat16"),
    "MI100": ("gpu", "gfx908", "float32"),
    "MI250": ("gpu", "gfx90a", "bfloat16"),
    "MI300": ("gpu", "gfx942", "bfloat16"),
}


@pytest.mark.parametrize("name", DEVICES)
def test_auto_is_the_type_that_a_device_is_fast_at(name):
    platform, capability, expected = DEVICES[name]
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    assert fast_dtype(device) == expected


def test_auto_is_float32_here_and_a_name_is_itself():
    assert parse_args([]).compute_dtype == "auto"
    assert resolve_dtype("auto") == "float32"
    assert resolve_dtype("bfloat16") == "bfloat16"


@pytest.mark.slow
def test_a_run_records_its_type_and_keeps_it_on_other_hardware(
    tmp_path, monkeypatch, capsys
):
    """Begun on a device that is fast at bfloat16, resumed on one that is not."""
    arguments = [*runs.ARGUMENTS, f"--workdir={tmp_path}"]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(precision, "fast_dtype", lambda device: "bfloat16")
        with pytest.raises(ValueError, match="stopped"):
            train(parse_args(arguments), stop)
    assert "layers in bfloat16" in capsys.readouterr().out
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["compute_dtype"] == "bfloat16"
    assert train(parse_args(arguments))["steps"] == 4
    assert "layers in bfloat16" in capsys.readouterr().out
    assert load_encoder(tmp_path).config.compute_dtype == "bfloat16"


def stop(row):
    raise ValueError("stopped")
