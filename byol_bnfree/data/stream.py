"""Pictures that are decoded at every access: sets too large or too varied for memory.

A pool of workers reads them (`picture_pool`).
"""

from functools import partial

import numpy as np
from jaxtyping import Int, Int32, UInt8

from byol_bnfree.config import AugmentConfig, TrainConfig, image_size_of
from byol_bnfree.data.crops import large_and_small_crops, random_crops
from byol_bnfree.data.eight_bits import conversion
from byol_bnfree.data.fingerprint import checksum
from byol_bnfree.data.geometry import EVAL_SHARE, Picture, centre_crop, to_array
from byol_bnfree.data.picture_pool import PicturePool
from byol_bnfree.data.reading import BadImage
from byol_bnfree.data.records import Layout, Records
from byol_bnfree.data.view_settings import small_side, view_config

CROP_STREAM = 1  # separates the random numbers of crops from those of the data order


class StreamSource:
    """A split that is decoded at every access. It is a `sources.Streaming` source.

    A bad picture raises `InputError`. Under on_bad_image="skip" it is added to
    `skipped` instead. In training the next good picture then replaces it, together with
    its label, so read labels after crops. Evaluation must not count a picture twice:
    it uses only the images that are `usable`.
    """

    in_memory = False

    def __init__(
        self,
        records: Records,
        layout: Layout,
        config: TrainConfig,
        crop_share: float | None = None,
    ):
        self.name, self.split = records.name, records.split
        self.class_names = records.class_names
        self.num_classes = len(records.class_names) or None
        self.image_shape = (*layout.size, layout.channels)
        self.location = records.location
        self.pictures = PicturePool(records, self.image_shape, config)
        self._records, self._config = records, config
        # Small sets such as CIFAR-10 are evaluated whole, as if held in memory.
        # DeepMind's code knows ImageNet only. It would cut and enlarge such pictures.
        whole = records.stored_shape[:2] == layout.size
        # The part of a picture's shorter side that evaluation uses.
        self.crop_share = 1.0 if whole else crop_share or EVAL_SHARE
        self._evaluation_view = partial(_central_part, share=self.crop_share)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def skipped(self) -> dict[str, str]:
        """Names of pictures that are left out, with the reasons."""
        return self.pictures.skipped

    @property
    def identity(self) -> str:
        return self._records.identity

    @property
    def fingerprint(self) -> str:
        """A checksum of the files' names, sizes and times, and of the conversion.

        The crop of evaluation is a part of it, because features depend on the crop.
        """
        height, width, channels = self.image_shape
        levels = conversion(self._config.data)
        how = [image_size_of(height, width), channels, levels.white, levels.alpha]
        return checksum(self._records.fingerprint, how, self.crop_share)

    def labels(
        self, indices: Int[np.ndarray, " b"] | None = None
    ) -> Int32[np.ndarray, " b"]:
        """Return labels of all or some images. All labels of a large tfds set need a
        pass over its records."""
        if indices is None:
            return self._records.labels(np.arange(len(self)))
        return self._records.labels(self.pictures.stand_in(indices))

    def images(self, indices: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b h w c"]:
        """Return central parts, as DeepMind evaluates; see `geometry.centre_crop`.

        If all pictures of the set have the size of the input, they are returned whole.

        Raises:
          InputError: for a bad picture, whatever on_bad_image says.
        """
        found = self.pictures.attempt(
            self._evaluation_view, indices, [()] * len(indices)
        )
        for picture in found:
            if isinstance(picture, BadImage):
                raise picture.stop() from picture
        return np.stack(found)

    def with_stand_ins(
        self, indices: Int[np.ndarray, " b"]
    ) -> UInt8[np.ndarray, "b h w c"]:
        """Return `images`, with replacements for bad pictures as in training."""
        return np.stack(
            self.pictures.decode(self._evaluation_view, indices, [()] * len(indices))
        )

    def usable(self, indices: Int[np.ndarray, " b"]) -> Int[np.ndarray, " m"]:
        """Return the indices of pictures that can be decoded.

        Under on_bad_image="skip" each picture is decoded once to find out. Under "stop"
        all indices are returned.
        """
        return self.pictures.usable(indices)

    def crops(
        self,
        indices: Int[np.ndarray, " b"],
        positions: Int[np.ndarray, " b"],
        step: int,
        views: int | None = None,
        augment: AugmentConfig | None = None,
    ) -> dict[str, UInt8[np.ndarray, "b *v h w c"]]:
        """Return random resized crops of each picture: the part of a batch.

        "crops" holds `views` crops, or those of training (None). Training with small
        views has "small_crops" too. They depend on the picture and (seed, step,
        position in the global batch) only. A view does not change if others after it
        are left out.

        `augment` has the areas of the crops; None takes those of training. If it has a
        user's function, there is no crop. The result is then "image" [b h w c], as for
        a set in memory: the largest central parts of the input's shape, resized to it.
        """
        config, settings = self._config, self._config.views
        augment = augment or config.augment
        keys = [(config.seed, int(step), int(p), CROP_STREAM) for p in positions]
        if augment.function is not None:
            cut = partial(_central_part, share=1.0)
            return {"image": np.stack(self.pictures.decode(cut, indices, keys))}
        count = settings.count if views is None else views
        large = [view_config(i, augment, settings) for i in range(count)]
        if views is not None or not settings.small:
            cut = partial(random_crops, views=large)
            return {"crops": np.stack(self.pictures.decode(cut, indices, keys))}
        cut = partial(
            large_and_small_crops,
            views=large,
            small=[
                view_config(count + i, augment, settings) for i in range(settings.small)
            ],
            small_size=self._small_size,
        )
        found = zip(*self.pictures.decode(cut, indices, keys), strict=True)
        return dict(zip(("crops", "small_crops"), map(np.stack, found), strict=True))

    @property
    def _small_size(self) -> tuple[int, int]:
        height, width, _ = self.image_shape
        views = self._config.views
        return small_side(height, views), small_side(width, views)

    def file_names(self, indices: Int[np.ndarray, " b"]) -> list[str]:
        """Return printable names, relative to the data set."""
        return self._records.file_names(indices)

    def name_of(self, index: int) -> str:
        """Return the name that a picture has in messages and in `skipped`."""
        return self._records.read(np.array([index]))[0][0]

    def close(self) -> None:
        """End the threads or processes that read; new ones start when they must."""
        self.pictures.close()


def _central_part(
    image: Picture, size: tuple[int, int], key: tuple, *, share: float
) -> UInt8[np.ndarray, "h w c"]:
    del key  # nothing is random
    return to_array(centre_crop(image, size, share))
