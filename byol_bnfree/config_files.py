"""Reads `--config=FILE[:ARG]`: a Python file whose function returns the settings."""

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Iterable
from pathlib import Path

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.own_code import execute, repaired_by_the_user

EXAMPLE = "configs/cifar10_cpu.py"


def _names_of(known: Iterable[str]) -> set[Path]:
    """Return what a command may call these recipes where they are no file."""
    files = {Path(f"{name}.py") for name in known}
    return {Path(name) for name in known} | files | {"configs" / file for file in files}


def recipes() -> dict[str, Path]:
    """Return this package's config files by name, installed or in a checkout."""
    here = Path(__file__).parent
    folders = (here / "configs", here.parent / "configs")
    folder = next((folder for folder in folders if folder.is_dir()), here)
    return {file.stem: file for file in sorted(folder.glob("*.py"))}


def load_config(path: str, norm: str | None = None) -> TrainConfig:
    """Run the Python file `FILE` or `FILE:ARG` and return its `get_config([ARG])`.

    A file in this package's configs/ may be given by name, such as `cifar10_cpu`. A
    config file is code and is executed. Load only files that you trust.

    Args:
      path: the file, and optionally an argument for its function.
      norm: passed to a `get_config` with an argument `norm`, which returns settings for
        this norm. None takes the function's default. A function without this argument
        has one recipe, which is returned as it is.

    Raises:
      InputError: if there is no such file, it fails, or it returns something else.
    """
    file, _, argument = os.path.expanduser(path).partition(":")
    # A user's own file goes before a recipe of this package with the same name.
    if not os.path.isfile(file):
        known = recipes()
        if Path(file) not in _names_of(known):
            raise InputError(
                f"config {file} is not a file; give a path such as {EXAMPLE}, or one "
                f"of {', '.join(known) or 'your own files'}."
            )
        file = str(known[Path(file).stem])
    module = execute(file, f"config {file}")
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise InputError(
            f"config {file} has no function get_config; add one, as {EXAMPLE} has."
        )
    parameters = inspect.signature(get_config).parameters.values()
    takes = any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)
    if argument and not takes:
        raise InputError(
            f"config {file} takes no argument; remove :{argument} behind its name."
        )
    with repaired_by_the_user(f"config {path}", file):
        takes_norm = "norm" in inspect.signature(get_config).parameters
        config = get_config(
            *([argument] if argument else []),
            **({"norm": norm} if norm and takes_norm else {}),
        )
    if not isinstance(config, TrainConfig):
        raise InputError(
            f"get_config of {file} returns {type(config).__name__}; it must return "
            f"a byol_bnfree.TrainConfig."
        )
    return dataclasses.replace(config, config=path)


def other_length(config: TrainConfig) -> str | None:
    """Return a note if a run has another length than its recipe; None otherwise.

    A recipe chooses its optimizer for its own length, and --epochs does not change it.
    There is no note if flags changed the optimizer, or if the recipe has the same one
    for the length of the run.

    Raises:
      InputError: if the recipe cannot be loaded.
    """
    if config.config is None or config.extend is not None:
        return None
    recipe = load_config(config.config, config.norm)
    own = (config.optim, config.base_lr)
    if _length(config) == _length(recipe) or own != (recipe.optim, recipe.base_lr):
        return None
    note = (
        f"{config.config} is a recipe of {_length(recipe)}, and this run has "
        f"{_length(config)}. Its optimizer stays that of {_length(recipe)}"
    )
    path = f"{config.config.partition(':')[0]}:{config.epochs:g}"
    with contextlib.suppress(InputError):  # the recipe does not know this length
        other = load_config(path, config.norm)
        if _length(other) == _length(config):
            if (other.optim, other.base_lr) == own:
                return None
            note += f"; --config={path} has that of {_length(config)}"
    return f"{note}."


def other_optimizer(config: TrainConfig) -> str | None:
    """Return a note if --optim.name changes the optimizer, but not the rate.

    Raises:
      InputError: if the recipe cannot be loaded.
    """
    if config.extend is not None:
        return None
    recipe = (
        TrainConfig(norm=config.norm)
        if config.config is None
        else load_config(config.config, config.norm)
    )
    before, now = recipe.optim, config.optim
    if before.name == now.name or config.base_lr != recipe.base_lr:
        return None
    return (
        f"--optim.name={now.name} replaces {before.name}, whose rate and momentum stay "
        f"(--base-lr={config.base_lr:g} --optim.momentum={now.momentum:g}). Optimizers "
        f"differ in their rates: give --base-lr for {now.name}."
    )


def _length(config: TrainConfig) -> str:
    if config.steps is not None:
        return f"{config.steps} step{'s' * (config.steps != 1)}"
    return f"{config.epochs:g} epoch{'s' * (config.epochs != 1)}"
