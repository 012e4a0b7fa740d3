"""A sheet of a recipe's augmented views, drawn without a run."""

import dataclasses
from collections.abc import Sequence

import jax

from byol_bnfree.command_line import parse_args
from byol_bnfree.config import image_size_of
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded
from byol_bnfree.settings.view_checks import check_small_size
from byol_bnfree.training.figures import PICTURES, save_views, sheet_of
from byol_bnfree.training.mesh import make_mesh, replicated
from byol_bnfree.training.parts import views_of_step_0


def draw_views(out: str, argv: Sequence[str]) -> None:
    """Write a picture with the two views of the first images that a run would see.

    Args:
      out: path of the picture, such as views.png.
      argv: flags of `python -m byol_bnfree.train`: data set, seed, augmentation.

    Raises:
      InputError: for wrong settings or data, and for a file that cannot be written.
    """
    config = parse_args(argv)
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
        save_views(expanded(out), sheet)
    except (OSError, ValueError) as error:  # ValueError: an unknown file type
        raise InputError(f"{out} cannot be written: {error}.") from error
