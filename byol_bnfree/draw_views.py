"""The augmentation of a recipe on a sheet, without a run."""

import dataclasses
from collections.abc import Sequence

import jax

from byol_bnfree.command_line import parse_args
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.sources import open_source
from byol_bnfree.errors import InputError
from byol_bnfree.training.figures import save_views
from byol_bnfree.training.mesh import make_mesh, replicated
from byol_bnfree.training.program import views_of_step_0

PICTURES = 8


def draw_views(out: str, argv: Sequence[str]) -> None:
    """Write the two views of the first images that a run would see.

    Args:
      out: file of the picture, such as views.png.
      argv: flags of `python -m byol_bnfree.train`: data set, seed, augmentation.

    Raises:
      InputError: settings or data that cannot be, or a file that cannot be written.
    """
    config = parse_args(argv)
    source = open_source(config, "train")
    size, _, channels = source.image_shape
    images = dataclasses.replace(config.data, image_size=size, channels=channels)
    # The order of the images and their draws do not depend on the size of the batch.
    config = dataclasses.replace(
        config, batch_size=PICTURES, bn_stat_groups=1, micro_batches=1, data=images
    )
    batch = Batches(source, config, replicated(make_mesh()))(0)
    views = jax.jit(views_of_step_0(config))(batch)
    try:
        save_views(out, *map(jax.device_get, views))
    except (OSError, ValueError) as error:  # matplotlib: an unknown ending
        raise InputError(f"{out} cannot be written: {error}.") from error
