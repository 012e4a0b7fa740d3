"""Single numbers, which may be arrays and may be inside a compiled function."""

import math
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_scalar(value: Any, most: float = math.inf) -> bool:
    """Return True for one finite real number from 0 to `most`.

    Inside a compiled function the value is not known, and only its kind counts.
    """
    if not isinstance(value, Real | jax.Array | np.ndarray) or np.shape(value) != ():
        return False
    kinds = (jnp.integer, jnp.floating)  # neither truth values nor complex numbers
    if not any(jnp.issubdtype(jnp.result_type(value), kind) for kind in kinds):
        return False
    if isinstance(value, jax.core.Tracer):
        return True
    number = float(value)  # under `jit` a constant array is compared only as a float
    return 0 <= number <= most and number < math.inf
