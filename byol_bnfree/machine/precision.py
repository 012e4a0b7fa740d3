"""Chooses the dtype of activations that the devices of a run compute fast."""

import re
from typing import Any

import jax

AMPERE = 8.0
"""First compute capability of NVIDIA GPUs whose matrix units take bfloat16."""
MATRIX_CORES = re.compile("gfx(90a|9[45].)")
"""AMD's accelerators from MI200 on."""


def resolve_dtype(wanted: str) -> str:
    """Return the name of a dtype. "auto" chooses the fast one of the first device."""
    return fast_dtype(jax.devices()[0]) if wanted == "auto" else wanted


def fast_dtype(device: Any) -> str:
    """Return bfloat16 for TPUs and GPUs with matrix units for it, otherwise float32.

    bfloat16 gains nothing on CPUs (XLA converts it), and little on older GPUs.
    """
    if device.platform == "tpu":
        return "bfloat16"
    capability = str(getattr(device, "compute_capability", ""))
    nvidia = re.fullmatch(r"\d+\.\d+", capability)
    fast = float(capability) >= AMPERE if nvidia else MATRIX_CORES.match(capability)
    return "bfloat16" if fast else "float32"
