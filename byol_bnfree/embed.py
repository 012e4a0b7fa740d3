"""`python -m byol_bnfree.embed` writes representations of any pictures to a file."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from byol_bnfree.command_line import exit_on_error
from byol_bnfree.errors import InputError
from byol_bnfree.files import expanded
from byol_bnfree.flags import cli
from byol_bnfree.interop.facts import Facts
from byol_bnfree.settings.types import check_types

if TYPE_CHECKING:
    from byol_bnfree.evaluation.kept.embedding import Embedding


@dataclass(frozen=True)
class EmbedConfig:
    """Write the representation of every picture of a data set. Labels are optional."""

    workdir: str
    """Folder of the run, or any file of weights that `load_encoder` reads."""
    dataset: str | None = None
    """shapes, a tensorflow-datasets name, or folder:PATH. None: the run's, or those
    that a file of weights names."""
    out: str = "features.npz"
    """File to write. Its ending chooses .npz, .csv or .parquet (needs pyarrow)."""
    split: Literal["all", "train", "test"] = "all"
    """all: every picture of both splits, once."""
    data_dir: str | None = None
    """Root of the prepared data sets. None: the run's."""
    unlabelled: Annotated[bool, tyro.conf.arg(name="data.unlabelled")] = False
    """folder: use all pictures at any depth, without classes."""
    on_bad_image: Literal["stop", "skip"] | None = None
    """stop: end at a picture that cannot be decoded. skip: leave it out. None: as the
    run did."""
    network: Literal["online", "target"] = "online"
    """Network to use. BYOL's papers evaluate the online network."""
    batch_size: int = 512
    """Pictures per step."""
    facts: Facts = Facts()
    """What a file of weights of another program does not state."""

    def __post_init__(self):
        check_types(self)
        if self.batch_size < 1:
            raise InputError(
                f"--batch-size is {self.batch_size}; it must be a positive number."
            )


def embed(config: EmbedConfig) -> "Embedding":
    """Write the file and return what is in it.

    Raises:
      InputError: if there is no encoder, nothing names the data, they cannot be read,
        or the file cannot be written. All this is checked before any picture is
        encoded.
    """
    from byol_bnfree.encoder import load_encoder
    from byol_bnfree.evaluation.data_of_weights import names_data
    from byol_bnfree.evaluation.images.as_trained import (
        print_changes,
        print_unfinished,
        reads_own,
    )
    from byol_bnfree.evaluation.images.splits import check_images
    from byol_bnfree.evaluation.kept.embedding import check_file, save_embedding
    from byol_bnfree.evaluation.pictures_of import asked_for, everything, represented

    out = check_file(config.out)
    encoder = load_encoder(config.workdir, config.network, **vars(config.facts))
    weights = expanded(config.workdir)
    if config.dataset is None and not names_data(weights, encoder.config):
        raise InputError(
            f"{weights} does not say where the data of its training are; give "
            f"--dataset."
        )
    print_unfinished(weights, encoder.step)
    run = asked_for(
        encoder.config,
        dataset=config.dataset,
        data_dir=config.data_dir,
        unlabelled=config.unlabelled,
        on_bad_image=config.on_bad_image,
    )
    with closing(everything(run, config.split, out.parent)) as pictures:
        check_images(encoder, pictures.sources[0])
        if reads_own(encoder.config, run):
            print_changes(weights, pictures.sources)
        found = represented(encoder, pictures, config.batch_size)
    save_embedding(out, found)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags, encode, write, and print. See `--help`."""
    config = cli(
        EmbedConfig,
        args=argv,
        prog="python -m byol_bnfree.embed",
        description="Write the representation of every picture of a data set.",
    )
    found = embed(config)
    rows, width = found.features.shape
    counts = [f"{n:,} {split}" for split, n in Counter(found.splits).items()]
    print(
        f"{rows:,} pictures ({', '.join(counts)}) of {width:,} features each in "
        f"{Path(config.out)}"
    )


def command() -> None:
    """Run `byol-embed` or `python -m byol_bnfree.embed`."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
