"""Two random resized crops of every picture of a folder by torchvision; images/s.

PYTHON peer_torchvision.py FOLDER, in an environment of its own with torchvision.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop

crop = RandomResizedCrop(224, interpolation=InterpolationMode.BICUBIC)
paths = sorted(Path(sys.argv[1]).glob("*.jpg"))


def read(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    return np.stack([np.asarray(crop(image)) for _ in range(2)])


read(paths[0])
began = time.perf_counter()
for path in paths:
    read(path)
print(len(paths) / (time.perf_counter() - began))
