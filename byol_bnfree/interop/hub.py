"""Writes a folder for the Hugging Face Hub, and reads weights offline."""

from pathlib import Path
from typing import Any

from byol_bnfree.encoder import Encoder, load_encoder
from byol_bnfree.errors import InputError
from byol_bnfree.files import read_json, write_atomically, write_json
from byol_bnfree.interop.card import model_card
from byol_bnfree.interop.comparison import Comparison, check_python
from byol_bnfree.interop.description import without_place
from byol_bnfree.interop.writing import Settings, save_weights, with_program
from byol_bnfree.settings.norms import part_norms

MODEL = "model.safetensors"
PICTURES = ("curves.png", "embedding.png")
RECORDS = {"config.json": "run.json", "summary.json": "summary.json"}
"""Files of a run that are copied, and their names in the folder."""
PLACES = ("workdir", "data_dir", "coordinator", "num_processes", "process_id")
"""Settings that name places. No picture and no result depends on them."""
PLACES_OF_RUN = ("compilation_cache", "wandb")
"""Those in the field `run`."""
DEFAULT_LICENCE = "apache-2.0"


def write_hub_folder(
    encoder: Encoder,
    source: Path,
    folder: Path,
    settings: Settings,
    name: str | None = None,
) -> list[Comparison]:
    """Write weights for Flax and PyTorch, model card, settings, results and curves.

    Args:
      encoder: a trained encoder.
      source: the run's folder, whose results and curves are copied.
      folder: folder to write. `weights/NAME` in this repository makes NAME known to
        `load_pretrained`.
      settings: python and origin, as for every export.
      name: name of the model.

    Returns:
      The comparisons with PyTorch.
    """
    network = settings.origin.get("encoder", "online")
    name = name or default_name(encoder, network)
    origin = settings.origin | {
        "licence": settings.origin["licence"] or DEFAULT_LICENCE
    }
    check_python("torch", settings.python)
    model = folder / MODEL
    description = save_weights(encoder, model, "torchvision", origin, plain=False)
    results = with_program(encoder, model, settings.python)
    # config.json has the same content, under the name that hubs expect.
    (folder / "encoder.json").unlink()
    write_json(folder / "config.json", description | {"model_type": "byol_bnfree"})
    # The run measured and drew its online encoder.
    figures = figures_of(source) if network == "online" else {}
    for file, there in RECORDS.items():
        of_run = (source / "checkpoints").is_dir()
        if of_run and (record := read_json(source / file)) is not None:
            write_json(folder / there, public(record))
    drawn = PICTURES if network == "online" else ()
    pictures = [file for file in drawn if (source / file).is_file()]
    for file in pictures:
        write_atomically(folder / file, (source / file).read_bytes())
    card = model_card(name, description, figures, pictures, [str(r) for r in results])
    write_atomically(folder / "README.md", card.encode())
    return results


def public(settings: dict[str, Any]) -> dict[str, Any]:
    """Remove places on the machine from settings and results."""
    kept = {name: value for name, value in settings.items() if name not in PLACES}
    for name in kept.keys() & {"dataset", "init_from", "config", "encoder"}:
        kept[name] = without_place(kept[name])
    if "run" in kept:
        own = kept["run"]
        kept["run"] = {k: v for k, v in own.items() if k not in PLACES_OF_RUN}
    if "augment" in kept:
        function = without_place(kept["augment"].get("function"))
        kept["augment"] = kept["augment"] | {"function": function}
    return kept


def default_name(encoder: Encoder, network: str) -> str:
    """Return data set, network, norm and seed, as in cifar10-resnet14-gn_ws-seed0.

    The target network has "-target" after them.
    """
    config = encoder.config
    data = Path(config.dataset.removeprefix("folder:")).name
    norm = part_norms(config)["encoder"]
    ending = "" if network == "online" else f"-{network}"
    return f"{data}-{config.model.name}-{norm}-seed{config.seed}{ending}"


def figures_of(source: Path) -> dict[str, float]:
    """Return the results in a run's summary, in [0, 1] by name; {} without any."""
    summary = read_json(source / "summary.json") or {}
    return {
        f"{kind}, {network} encoder": value
        for kind in ("knn", "linear")
        if isinstance(summary.get(kind), dict)
        for network, value in summary[kind].items()
        if isinstance(value, float)
    }


def load_pretrained(name: str) -> Encoder:
    """Load an encoder that ships with this package, by name. Nothing is downloaded.

    A name without its seed, such as cifar10-resnet14-gn_ws, is that of seed 0.

    Raises:
      InputError: if the name is unknown. The message lists all names.
    """
    names = pretrained_names()
    if f"{name}-seed0" in names:
        name = f"{name}-seed0"
    if name not in names:
        known = ", ".join(names) or "none"
        raise InputError(
            f"no weights named {name!r} ship with this version; choose one of: {known} "
            f"(without -seedN it is that of seed 0)."
        )
    return load_encoder(weights_folder() / name)


def pretrained_names() -> list[str]:
    """Return the names that `load_pretrained` knows."""
    root = weights_folder()
    return sorted(p.parent.name for p in root.glob(f"*/{MODEL}"))


def weights_folder() -> Path:
    """Return the folder of the weights: in an installed package, or in the checkout."""
    package = Path(__file__).parent.parent
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"
