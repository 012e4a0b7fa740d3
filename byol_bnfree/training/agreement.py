"""Checks that the processes of a run have equal settings, data and code."""

import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from byol_bnfree import __version__
from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.files import flatten, strict
from byol_bnfree.training.distributed import is_primary, wait_for_all

PLACES = frozenset(
    {
        *("workdir", "config", "data_dir", "dataset", "encoder", "augment.function"),
        *("coordinator", "num_processes", "process_id", "data.workers"),
        *("run.compilation_cache", "run.join_seconds", "run.wandb"),
    }
)
"""Settings in which the processes of a run may differ. Paths may: the data and users'
code are compared by their checksums."""
# Seconds in which a network disk shows a file that another machine has made.
_PATIENCE = 10.0


def facts_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings and versions that all processes of a run must have equal."""
    settings = flatten(strict(dataclasses.asdict(config)))
    kept = {
        f"--{k.replace('_', '-')}": v for k, v in settings.items() if k not in PLACES
    }
    return kept | {"byol_bnfree": __version__, "jax": jax.__version__}


def check_agreement(facts: Mapping[str, Any]) -> None:
    """Raise `InputError` in all processes unless all have the same `facts`.

    Processes with other settings would train other networks, and those with other
    pictures would build the batches of another epoch. Nothing would say so.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(dict(facts), default=str).encode()
    checksum = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    if (_gathered(checksum) == checksum).all(axis=1).all():
        return
    lengths = _gathered(np.array([len(text)], np.int32))[:, 0]
    texts = _gathered(np.frombuffer(text.ljust(lengths.max()), np.uint8))
    refuse_differences([json.loads(row.tobytes()) for row in texts])


def refuse_differences(all_facts: Sequence[Mapping[str, Any]]) -> None:
    """Raise `InputError` for the first process whose facts differ from process 0's."""
    first = all_facts[0]
    for process, facts in enumerate(all_facts):
        names = [k for k in (first | facts) if first.get(k) != facts.get(k)]
        if names:
            name = names[0]
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise InputError(
                f"process {process} of {len(all_facts)} has {name} "
                f"{facts.get(name)!r}, but process 0 has {first.get(name)!r}{more}; "
                f"give all processes the same flags, data and code."
            )


def check_shared(folder: Path) -> None:
    """Raise `InputError` in all processes unless all see the folder of process 0.

    A folder that each machine has for itself can be written too, but the parts of a
    checkpoint would not come together.
    """
    if jax.process_count() == 1:
        return
    own = np.frombuffer(secrets.token_bytes(8), np.uint8)
    token = np.asarray(multihost_utils.broadcast_one_to_all(own), np.uint8)
    file = folder / f".together-{token.tobytes().hex()}"
    if is_primary():
        file.touch()
    wait_for_all("work folder")
    seen = _gathered(np.array([_appears(file)]))[:, 0]
    if is_primary():
        file.unlink(missing_ok=True)
    if not seen.all():
        raise InputError(
            f"process {int(np.flatnonzero(~seen)[0])} of {len(seen)} does not see the "
            f"work folder {folder} of process 0; choose a --workdir on a disk that all "
            f"machines of the run share."
        )


def _appears(file: Path) -> bool:
    """Wait for a file of another machine; False if it does not come."""
    until = time.monotonic() + _PATIENCE
    while not file.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _gathered(row: np.ndarray) -> np.ndarray:
    """Return the row of every process, [processes n]."""
    return np.asarray(multihost_utils.process_allgather(row))
