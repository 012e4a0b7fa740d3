"""One export, from its settings to its files: `export(config)`."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from byol_bnfree.encoder import load_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.files import RESTORE, expanded, read_json
from byol_bnfree.interop.hub import write_hub_folder
from byol_bnfree.interop.weights import description_of, holds_weights, is_run
from byol_bnfree.interop.writing import Settings, write
from byol_bnfree.training.saved_run import read_run, unfinished


def export(config: Any) -> Iterator[str]:
    """Write the files that an `ExportConfig` asks for; yield lines about the work.

    Raises:
      InputError: if there is no encoder, it is a user's own, or the format cannot hold
        it.
      RunStopped: if the exported encoder computes something else.
    """
    if (note := _without_effect(config)) is not None:
        yield f"note: {note}"
    source = expanded(config.workdir)
    _refuse_run(config.out)
    _refuse_own_encoder(source)
    encoder = load_encoder(source, config.network, **vars(config.facts))
    if (note := unfinished(source, encoder.step)) is not None:
        yield f"note: {note}"
    origin = origin_of(source, config.licence, config.network)
    python = os.path.expanduser(config.python) if config.compare else None
    settings = Settings(config.format, config.names, python, origin)
    with _folder(config, source) as folder:
        if config.format == "hub-folder":
            results = write_hub_folder(encoder, source, folder, settings, config.name)
        else:
            results = write(encoder, folder, settings)
    for result in results:
        yield str(result)
        result.check(config.tolerance)
    if not results:
        yield "nothing was compared (--no-compare)"
    yield str(folder)


def _without_effect(config: Any) -> str | None:
    """Return a sentence about settings that this export does not read, if any."""
    found = []
    if config.names != "byol_bnfree" and config.format != "safetensors":
        found.append(f"--names has no effect: a {config.format} has names of its own")
    if config.name is not None and config.format != "hub-folder":
        found.append("--name has no effect: only a hub-folder has a name")
    return "; ".join(found) or None


def _refuse_run(out: str | None) -> None:
    """A run has files of these names, and an export beside them ages as it trains."""
    if out is not None and is_run(expanded(out)):
        raise InputError(
            f"--out={out} is the work folder of a run, whose files an export could "
            f"replace; give a new folder, or leave out --out."
        )


def _refuse_own_encoder(source: Path) -> None:
    """Names, descriptions and programs exist only for networks of --model.name."""
    if not holds_weights(source) and read_run(source)[0].encoder is not None:
        raise InputError(
            "export writes networks of --model.name, but this run has its own encoder; "
            "use load_encoder in your own code."
        )


@contextlib.contextmanager
def _folder(config: Any, source: Path) -> Iterator[Path]:
    """Make the folder to write to. An export that is refused leaves no empty folder."""
    if config.out is None and not source.is_dir():
        raise InputError("workdir is a file; give --out=FOLDER to write to.")
    kind = config.format if config.format != "safetensors" else config.names
    out = expanded(config.out) if config.out else None
    folder = out or source / "export" / kind
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}); give another --out."
        ) from error
    try:
        yield folder
    except InputError:
        with contextlib.suppress(OSError):  # it may hold something
            if new:
                folder.rmdir()
        raise


def origin_of(
    source: Path, licence: str | None, network: Literal["online", "target"] = "online"
) -> dict[str, Any]:
    """Return encoder, crop, source and licence for the description.

    They come from a work folder, or from the description that a file of weights has.
    """
    found: dict[str, Any] = {"encoder": network} | dict.fromkeys(
        ("crop_share", "source", "licence")
    )
    if holds_weights(source):
        known = description_of(source)
        known |= known.get("preprocessing", {})
        found = {name: known.get(name, usual) for name, usual in found.items()}
    elif (record := read_json(source / "source.json", RESTORE)) is not None:
        # It is of networks of other projects.
        found["source"] = _text_of(record, source / "source.json")
        found["licence"] = found["source"].partition(". ")[2] or None
    else:
        found["crop_share"] = crop_share_of(source)
    return found | {"licence": licence or found["licence"]}


def crop_share_of(run: Path) -> float | None:
    """Return the share of a picture's shorter side that the run's evaluation sees.

    None for a run of an older version, which has no record of it.
    """
    return (read_json(run / "dataset.json", RESTORE) or {}).get("crop_share")


def _text_of(record: dict[str, Any], path: Path) -> str:
    """Return the origin and licence in a source.json."""
    if not isinstance(source := record.get("source"), str):
        raise InputError(f"{path} has no text named source; restore it.")
    return source
