"""How many ImageNet-sized JPEGs does a core decode and crop twice in a second?

    taskset -c 0 python -m experiments.decoding --peer PYTHON_WITH_TORCHVISION

On one core: both read the same 500 x 375 JPEGs (noise with the spectrum of
photographs, about 135 kB each) and cut two random resized crops of 224 pixels, in turn.
Appends every round to results.jsonl.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from byol_bnfree.config import AugmentConfig
from byol_bnfree.data.crops import random_crops
from byol_bnfree.data.decode import decode
from byol_bnfree.training.environment import environment

RESULTS = Path(__file__).with_name("results.jsonl")
PEER = Path(__file__).with_name("peer_torchvision.py")
SIZE = 500, 375  # of the median picture of ImageNet
ACCELERATOR = 3000  # images/s that one accelerator takes


@dataclass(frozen=True)
class Arguments:
    """Decode and crop JPEGs on one core, and compare with torchvision."""

    peer: str | None = None
    """A Python with torchvision. None: time only this package."""
    pictures: int = 200
    """Number of JPEGs in a round."""
    rounds: int = 5
    """Number of rounds; medians are reported."""


def main(arguments: Arguments) -> None:
    """Measure in turn, append to results.jsonl, print the medians."""
    if len(cores := os.sched_getaffinity(0)) > 1:
        print(f"this process may use {len(cores)} cores; see taskset in --help")
    with tempfile.TemporaryDirectory() as folder:
        size = write_pictures(Path(folder), arguments.pictures)
        rounds = []
        for _ in range(arguments.rounds):
            rates = {"ours": our_rate(Path(folder))}
            if arguments.peer:
                command = [arguments.peer, str(PEER), folder]
                rates["torchvision"] = float(subprocess.check_output(command))
            rounds.append(rates)
    row = {"images_per_s": rounds, "kilobytes": size / 1e3, "cores": len(cores)}
    with RESULTS.open("a") as file:
        file.write(json.dumps(row | {"environment": environment()}) + "\n")
    for name in rounds[0]:
        rate = statistics.median(found[name] for found in rounds)
        print(
            f"{name}: {rate:.0f} images/s; {ACCELERATOR} a second take "
            f"{ACCELERATOR / rate:.0f} such cores"
        )


def write_pictures(folder: Path, count: int) -> float:
    """JPEGs of noise whose amplitude falls as 1 / frequency; their mean size, bytes."""
    draws = np.random.default_rng(0)
    width, height = SIZE
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height)))
    falling = 1 / np.maximum(frequency, 1 / width)[..., None]
    for index in range(count):
        noise = np.fft.fft2(draws.standard_normal((height, width, 3)), axes=(0, 1))
        pixels = np.fft.ifft2(noise * falling, axes=(0, 1)).real
        pixels = 128 + 50 * (pixels - pixels.mean()) / pixels.std()
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{index:04}.jpg", quality=92)
    return statistics.fmean(path.stat().st_size for path in folder.glob("*.jpg"))


def our_rate(folder: Path) -> float:
    """Return images per second, read as by a source that streams."""
    views = AugmentConfig().view1, AugmentConfig().view2
    paths = sorted(folder.glob("*.jpg"))
    began = time.perf_counter()
    for index, path in enumerate(paths):
        image = decode(path.read_bytes(), path.name, channels=3)
        random_crops(image, (224, 224), views, (0, index))
    return len(paths) / (time.perf_counter() - began)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
