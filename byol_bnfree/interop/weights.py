"""Reads an encoder's weights from any supported file.

| file                                        | found by            |
|---------------------------------------------|---------------------|
| safetensors, ours or with others' names     | `.safetensors`      |
| `torch.save` of a state dict                | a zip archive       |
| DeepMind's released checkpoints             | a pickle            |
| a program of `jax.export`                   | `.stablehlo`        |
| a folder that `byol_bnfree.export` wrote    | one of them inside  |
"""

import zipfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetensors import SafetensorError, safe_open

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError, why_not_read
from byol_bnfree.files import expanded
from byol_bnfree.interop import deepmind
from byol_bnfree.interop.description import from_metadata, read_description, to_config
from byol_bnfree.interop.facts import NO_FACTS, Facts
from byol_bnfree.interop.foreign import from_our_program, from_state_dict
from byol_bnfree.interop.names import imported
from byol_bnfree.interop.program import PROGRAM_SUFFIX
from byol_bnfree.interop.torch_zip import read_state_dict
from byol_bnfree.interop.trees import Flat, nested

Network = Literal["online", "target"]
OLD_TORCH = bytes.fromhex("6cfc9c46f9206aa85019")  # torch's magic number, pickled
NAMES = ("model.safetensors", "encoder.safetensors", "encoder.stablehlo")
"""Files of weights in the folders of our exports."""
ACCEPTED = (
    "a work folder, a folder of `byol_bnfree.export`, or a .safetensors, .pth, .ckpt, "
    ".stablehlo or DeepMind's .pkl file"
)


class Weights(NamedTuple):
    """Weights of an encoder. `variables` fit its module; NumPy arrays."""

    config: TrainConfig
    variables: dict[str, Any]
    step: int
    heads: dict[str, Any] | None = None
    """Parameters and statistics of the rest of the online network, if the file has it:
    {"params": {"projector": ...}, "batch_stats": ...}."""


def is_run(folder: Path) -> bool:
    """Return True if a folder is the work folder of a run, begun or finished."""
    records = ("config.json", "dataset.json")
    begun = all((folder / name).is_file() for name in records)
    return begun or (folder / "checkpoints").is_dir()


def holds_weights(path: Path) -> bool:
    """Return True if a path is a file, or a folder of our exports.

    A run stays a run, whatever else lies in its folder.
    """
    inside = any((path / name).is_file() for name in NAMES)
    return path.is_file() or (inside and not is_run(path))


def find(path: Path) -> Path:
    """Return the file of weights at `path` or in it; `InputError` if there is none."""
    if path.is_dir():
        inside = [path / name for name in NAMES if (path / name).is_file()]
        if inside:
            return inside[0]
        raise InputError(f"{path} holds no weights; give {ACCEPTED}.")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give {ACCEPTED}.")
    return path


def description_of(path: Path) -> dict[str, Any]:
    """Return the description of a file of ours at `path` or in it; {} without."""
    file = find(path)
    if file.suffix == PROGRAM_SUFFIX:
        return read_description(file.with_name("encoder.json"))
    if file.suffix != ".safetensors":
        return {}
    return from_metadata(read_safetensors(file)[1]) or {}


def read_weights(
    path: str | Path, network: Network = "online", facts: Facts = NO_FACTS
) -> Weights:
    """Read the encoder in a file, or in a folder of our exports.

    Args:
      path: see the table of this module.
      network: "online" or "target", if the file has both. "online" also takes the
        only encoder of a file of ours, whichever it is.
      facts: what a state dict of another program does not state.

    Raises:
      InputError: for another kind of file, an encoder that `create_encoder` cannot
        build, or facts about a file that states them.
    """
    path = find(expanded(path))
    with open(path, "rb") as file:
        start = file.read(32)
    if path.suffix == ".safetensors":
        return _from_safetensors(path, network, facts)
    if zipfile.is_zipfile(path):
        return _from_torch(path, network, facts)
    if OLD_TORCH in start:
        raise InputError(
            f"{path} is a file of torch.save before PyTorch 1.6; save the state dict "
            f"again with PyTorch 1.6 or newer."
        )
    if start[:2] == b"\x80\x02":
        facts.check_unneeded(path)
        return _from_deepmind(path, network)
    raise InputError(f"{path} is not a file of weights; give {ACCEPTED}.")


def read_safetensors(path: Path) -> tuple[Flat, dict[str, str]]:
    """Return all arrays of a file, and its metadata; `InputError` if it is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({why_not_read(error)}); restore it."
        ) from error


def _from_safetensors(path: Path, network: Network, facts: Facts) -> Weights:
    arrays, metadata = read_safetensors(path)
    description = from_metadata(metadata)
    if description is None:
        return _foreign(arrays, network, facts)
    facts.check_unneeded(path)
    check_holds(path, description, network)
    config = to_config(description)
    found, _ = imported(arrays, description["family"])
    return Weights(config, _nested(found), description["step"])


def _from_torch(path: Path, network: Network, facts: Facts) -> Weights:
    arrays, metadata = read_state_dict(path)
    description = from_metadata(metadata)
    if description is None:
        return _foreign(arrays, network, facts)
    facts.check_unneeded(path)
    check_holds(path, description, network)
    config, found = to_config(description), from_our_program(arrays)
    return Weights(config, _nested(found), description["step"])


def check_holds(path: Path, description: dict[str, Any], network: Network) -> None:
    """Raise `InputError` if a file of ours does not hold this encoder.

    "online" is the default, which takes the only encoder that there is.
    """
    if network == "target" and description.get("encoder", "online") != "target":
        raise InputError(f"{path} holds one encoder, the online one; load that.")


def _foreign(arrays: Flat, network: Network, facts: Facts) -> Weights:
    found, config = from_state_dict(arrays, network, facts)
    return Weights(config, _nested(found), 0)


def _nested(found: dict[str, Flat]) -> dict[str, Any]:
    return {collection: nested(leaves) for collection, leaves in found.items()}


def _from_deepmind(path: Path, network: Network) -> Weights:
    found = deepmind.load(path, targets=network == "target")
    deepmind.check(found, str(path))
    params = dict(getattr(found, f"{network}_params"))
    stats = dict(getattr(found, f"{network}_stats"))
    if "encoder" not in params:
        raise InputError(f"{path} holds no {network} encoder; load the other one.")
    variables = {"params": params.pop("encoder")}
    if "encoder" in stats:
        variables["batch_stats"] = stats.pop("encoder")
    heads = {"params": params, "batch_stats": stats}
    return Weights(found.config, variables, found.step, heads)
