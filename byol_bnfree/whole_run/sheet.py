"""A sheet of a recipe's augmented views, drawn without a run."""

import dataclasses
from pathlib import Path

import jax
from matplotlib.figure import Figure

from byol_bnfree.config import TrainConfig, image_size_of
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import holds, open_source
from byol_bnfree.errors import InputError, why_not_written
from byol_bnfree.files import writable
from byol_bnfree.settings.view_checks import check_small_size
from byol_bnfree.training.figures import PICTURES, save_views, sheet_of
from byol_bnfree.training.mesh import make_mesh, replicated
from byol_bnfree.training.parts import views_of_step_0


def draw_views(out: str, config: TrainConfig) -> None:
    """Write a picture with the two views of the first images that a run would see.

    Args:
      out: path of the picture, such as views.png.
      config: of the run; its data set, seed and augmentation count.

    Raises:
      InputError: for wrong data, and for a file that cannot be written.
    """
    file = _picture(out, config)
    source = open_source(config, "train")
    height, width, channels = source.image_shape
    check_small_size(config.views.small_size, height, width)
    size = image_size_of(height, width)
    images = dataclasses.replace(config.data, image_size=size, channels=channels)
    # The batch size affects neither the order of the images nor their augmentation, so
    # these are the run's own first images although the batch is smaller.
    config = dataclasses.replace(config, data=images)
    batch = Batches(source, PICTURES, config.seed, replicated(make_mesh()))(0)
    views = jax.jit(views_of_step_0(config))(batch, jax.random.key(config.seed))
    sheet = sheet_of(config, source, jax.device_get(views))
    try:
        save_views(file, sheet)
    except OSError as error:
        raise InputError(f"{out} is not written: {why_not_written(error)}.") from error


def _picture(out: str, config: TrainConfig) -> Path:
    """Return the path of --out. Raise `InputError` if no picture can be written there.

    It is called before pictures are read and views are compiled.
    """
    file = writable(out)
    known = sorted(Figure().canvas.get_supported_filetypes())
    if (file.suffix.removeprefix(".") or "png").lower() not in known:
        raise InputError(
            f"--out {out} has an ending that no kind of picture has; use one of "
            f"{', '.join(known)}."
        )
    if holds(config, file):
        raise InputError(
            f"--out {out} lies in the folder of pictures {config.dataset}; give a file "
            f"outside of it."
        )
    return file
