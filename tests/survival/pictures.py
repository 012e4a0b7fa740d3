"""Mutated pictures: none stops a run without naming its file; memory stays bounded.

    python tests/survival/pictures.py 1000

Every picture goes alone, beside a good one, through the folder source and the pipeline
under on_bad_image="stop": it is used, or `InputError` names it. Then all of them go
through together under "skip": exactly those are left out. Last, a run trains on them.
"""

import argparse
import dataclasses
import io
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from PIL import Image

from byol_bnfree.config import DataConfig, TrainConfig
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.data.reading import MAX_PIXELS
from byol_bnfree.data.sources import open_source
from byol_bnfree.errors import InputError
from byol_bnfree.training.mesh import batch_sharding, make_mesh

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif"}
FORMATS |= {"TIFF": "tiff"}
Draw = random.Random


class Mutant(NamedTuple):
    """A file's bytes and ending."""

    data: bytes
    ending: str


def picture(draw: Draw, size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(draw.getrandbits(32)).integers(
        0, 256, (size[1], size[0], 3), np.uint8
    )
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, fmt: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def whole(draw: Draw) -> Mutant:
    """A good picture of any format, size and mode."""
    fmt = draw.choice(list(FORMATS))
    size = draw.randint(8, 64), draw.randint(8, 64)
    modes = {"JPEG": "RGB L", "BMP": "RGB L P 1", "WEBP": "RGB RGBA"}
    mode = draw.choice(modes.get(fmt, "RGB L P 1 RGBA LA").split())
    return Mutant(encode(picture(draw, size, mode), fmt), FORMATS[fmt])


def flipped(draw: Draw) -> Mutant:
    data, ending = whole(draw)
    data = bytearray(data)
    for _ in range(draw.randint(1, 20)):
        # Half of them near the head, where sizes and kinds are.
        end = len(data) if draw.random() < 0.5 else min(64, len(data))
        data[draw.randrange(end)] ^= 1 << draw.randrange(8)
    return Mutant(bytes(data), ending)


def truncated(draw: Draw) -> Mutant:
    data, ending = whole(draw)
    return Mutant(data[: draw.randrange(len(data))], ending)


def holed(draw: Draw) -> Mutant:
    """Zeros in the middle, as of a download that was never finished."""
    data, ending = whole(draw)
    start, stop = sorted(draw.randrange(len(data)) for _ in range(2))
    return Mutant(data[:start] + bytes(stop - start) + data[stop:], ending)


def misnamed(draw: Draw) -> Mutant:
    return Mutant(whole(draw).data, draw.choice(list(FORMATS.values())))


def sized(width: int, height: int) -> Callable[[Draw], Mutant]:
    def make(draw: Draw) -> Mutant:
        fmt = draw.choice(["JPEG", "PNG", "GIF", "TIFF", "BMP"])
        return Mutant(encode(picture(draw, (width, height)), fmt), FORMATS[fmt])

    return make


def bomb(draw: Draw) -> Mutant:
    """A PNG whose header promises up to 2^62 pixels, and whose checksum is right."""
    data = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">2I", *(draw.randrange(9_500, 2**31) for _ in range(2)))
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return Mutant(bytes(data), "png")


def packed_bomb(draw: Draw) -> Mutant:
    """A few kilobytes of 100 million pixels that are really there."""
    side = int((1.1 * MAX_PIXELS) ** 0.5)
    return Mutant(encode(Image.new("1", (side, side)), "PNG"), "png")


def largest(draw: Draw) -> Mutant:
    """Nearly as many pixels as are allowed, of a mode that is converted."""
    side = int(MAX_PIXELS**0.5)
    mode = draw.choice(["1", "P", "LA"])
    return Mutant(encode(Image.new(mode, (side, side)), "PNG"), "png")


def text_bomb(draw: Draw) -> Mutant:
    """A PNG with a comment that unpacks to 100 MB."""
    data = encode(picture(draw, (9, 9)), "PNG")
    body = b"zTXtcomment\0\0" + zlib.compress(bytes(10**8))
    chunk = (
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    )
    return Mutant(data[:33] + chunk + data[33:], "png")


def empty(draw: Draw) -> Mutant:
    return Mutant(b"", draw.choice(list(FORMATS.values())))


def text(draw: Draw) -> Mutant:
    texts = [b"hello\n", b"<html><body>404</body></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    texts += [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\3\4" + bytes(40)]
    return Mutant(draw.choice(texts), "jpg")


def noise(draw: Draw) -> Mutant:
    """Random bytes behind the first few of a real picture."""
    data, ending = whole(draw)
    return Mutant(data[: draw.randint(0, 40)] + draw.randbytes(500), ending)


def animated(draw: Draw) -> Mutant:
    fmt = draw.choice(["GIF", "WEBP", "PNG", "TIFF"])
    frames = [picture(draw, (20, 20)) for _ in range(3)]
    data = encode(frames[0], fmt, save_all=True, append_images=frames[1:])
    return Mutant(data, FORMATS[fmt])


def sixteen_bits(draw: Draw) -> Mutant:
    pixels = np.random.default_rng(draw.getrandbits(32)).integers(0, 2**16, (20, 30))
    fmt = draw.choice(["PNG", "TIFF"])
    return Mutant(encode(Image.fromarray(pixels.astype(np.uint16)), fmt), FORMATS[fmt])


def cmyk(draw: Draw) -> Mutant:
    fmt = draw.choice(["JPEG", "TIFF"])
    return Mutant(encode(picture(draw, (20, 30), "CMYK"), fmt), FORMATS[fmt])


def broken_exif(draw: Draw) -> Mutant:
    """Orientations that do not exist, and EXIF that is cut short or noise."""
    exif = Image.Exif()
    exif[0x0112] = draw.choice([0, 6, 9, 2**15])
    data = bytearray(exif.tobytes())
    for _ in range(draw.randint(0, 6)):
        data[draw.randrange(6, len(data))] = draw.randrange(256)
    fmt = draw.choice(["JPEG", "PNG", "WEBP"])
    data = bytes(data[: draw.randint(8, len(data))])
    return Mutant(encode(picture(draw, (20, 30)), fmt, exif=data), FORMATS[fmt])


MUTATIONS: dict[str, Callable[[Draw], Mutant]] = {
    "bits flipped": flipped,
    "truncated": truncated,
    "hole of zeros": holed,
    "wrong extension": misnamed,
    "1 x 1": sized(1, 1),
    "30,000 x 1": sized(30_000, 1),
    "1 x 30,000": sized(1, 30_000),
    "bomb in the header": bomb,
    "bomb": packed_bomb,
    "largest allowed": largest,
    "bomb of text": text_bomb,
    "zero bytes": empty,
    "text named .jpg": text,
    "noise": noise,
    "animated": animated,
    "16 bits": sixteen_bits,
    "CMYK": cmyk,
    "broken EXIF": broken_exif,
}
HEAVY = ("bomb", "largest allowed", "bomb of text")  # a second each: every 20th turn


def mutants(count: int, seed: int = 0) -> list[tuple[str, Mutant]]:
    """So many, of every kind in turn, with the name of the mutation."""
    draw, found, turn = Draw(seed), [], 0
    while len(found) < count:
        for name, mutate in MUTATIONS.items():
            if name not in HEAVY or turn % 20 == 10:
                found.append((name, mutate(draw)))
        turn += 1
    return found[:count]


def configuration(folder: Path, skip: bool, memory: bool = False) -> TrainConfig:
    return TrainConfig(
        dataset=f"folder:{folder}",
        batch_size=16 if skip else 2,
        steps=1,
        on_bad_image="skip" if skip else "stop",
        data=DataConfig(image_size=16, in_memory_gib=1 if memory else 1e-9),
    )


def write(folder: Path, name: str, mutant: Mutant) -> Path:
    path = folder / f"{name}.{mutant.ending}"
    path.write_bytes(mutant.data)
    return path


def used_alone(path: Path, good: Path, mesh: Mesh, memory: bool) -> str | None:
    """None if the pipeline made a batch of it and a good one, else the sentence."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, good):
            os.link(file, Path(folder) / file.name)
        config = configuration(Path(folder), skip=False, memory=memory)
        try:
            source = open_source(config, "train")
            Batches(source, config.batch_size, config.seed, batch_sharding(mesh))(0)
        except InputError as error:
            assert path.name in str(error) and "\n" not in str(error), error
            return str(error)
    return None


def survey(folder: Path, count: int, seed: int = 0, say=print) -> dict[str, Counter]:
    """Used and refused pictures by mutation; raises where the promise is broken."""
    draw, mesh = Draw(seed), make_mesh()
    pictures = folder / "pictures"
    pictures.mkdir()
    good = write(folder, "good", Mutant(encode(picture(draw, (32, 32)), "PNG"), "png"))
    refused, outcomes = set(), {name: Counter() for name in MUTATIONS}
    for number, (name, mutant) in enumerate(mutants(count, seed)):
        path = write(pictures, f"{number:04}", mutant)
        sentence = used_alone(path, good, mesh, memory=number % 2 == 0)
        outcomes[name]["refused" if sentence else "used"] += 1
        if sentence:
            refused.add(path.name)
        if (number + 1) % 100 == 0:
            say(f"{number + 1} of {count} alone, {len(refused)} refused")
    os.link(good, pictures / good.name)
    assert left_out(pictures, mesh) == refused
    return outcomes


def left_out(pictures: Path, mesh: Mesh) -> set[str]:
    """Names that an epoch of all pictures together skips."""
    config = configuration(pictures, skip=True)
    source = open_source(config, "train")
    batches = Batches(source, config.batch_size, config.seed, batch_sharding(mesh))
    for step in range(-(-len(source) // config.batch_size)):
        batches(step)
    return {Path(name).name for name in source.skipped}


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def train_on(pictures: Path, workdir: Path) -> None:
    """A real run over all of them."""
    from byol_bnfree.config import HeadConfig, ModelConfig, OptimConfig
    from byol_bnfree.whole_run.run import train

    config = configuration(pictures, skip=True)
    head = HeadConfig(hidden=8, out=4)
    train(
        dataclasses.replace(
            config,
            steps=50,
            workdir=str(workdir),
            optim=OptimConfig(warmup_epochs=0.1),
            model=ModelConfig("resnet8", 0.25, "small", projector=head, predictor=head),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_mesh()  # JAX is there before the first figure
    before, began = peak_mib(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcomes = survey(folder, arguments.count, arguments.seed)
        for mutation, counts in outcomes.items():
            print(f"{mutation}: {dict(counts)}")
        seconds = time.monotonic() - began
        print(f"peak {before:.0f} MiB before, {peak_mib():.0f} after; {seconds:.0f} s")
        train_on(folder / "pictures", folder / "run")
    print(f"peak after training {peak_mib():.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
