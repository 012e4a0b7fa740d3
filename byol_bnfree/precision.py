"""The type of activations that the devices of a run are fast at."""

import re
from typing import Any

import jax

AMPERE = 8.0
"""The first NVIDIA generation whose matrix units take bfloat16 (compute capability)."""
MATRIX_CORES = re.compile("gfx(90a|9[45].)")
"""AMD's accelerators from MI200 on."""


def resolve_dtype(wanted: str) -> str:
    """The name of a type; "auto" is what the first device of this run is fast at."""
    return fast_dtype(jax.devices()[0]) if wanted == "auto" else wanted


def fast_dtype(device: Any) -> str:
    """bfloat16 on TPUs and on GPUs with matrix units for it, float32 elsewhere.

    bfloat16 gains nothing on CPUs (XLA:CPU converts it), and little on older GPUs.
    """
    if device.platform == "tpu":
        return "bfloat16"
    capability = str(getattr(device, "compute_capability", ""))
    nvidia = re.fullmatch(r"\d+\.\d+", capability)
    fast = float(capability) >= AMPERE if nvidia else MATRIX_CORES.match(capability)
    return "bfloat16" if fast else "float32"
