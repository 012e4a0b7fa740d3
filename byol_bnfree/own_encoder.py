"""Users' own encoders: `--model=FILE:FUNCTION`, or `train(config, encoder=...)`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import InvalidRngError

from byol_bnfree.errors import InputError, first_line
from byol_bnfree.leaves import by_path
from byol_bnfree.models.architectures import ARCHITECTURES
from byol_bnfree.models.norm import Layers
from byol_bnfree.own_code import in_line, load_function, repaired_by_the_user

GIVEN = "given:"  # prefix of a class name: a program passed this encoder to train()


def load_encoder_module(where: str, layers: Layers) -> nn.Module:
    """Import `FILE:FUNCTION`, call it with `layers` and return its module.

    Raises:
      InputError: if there is no such function, it fails, or it returns no Flax module.
    """
    if where.startswith(GIVEN):
        raise InputError(
            f"this run's encoder is a {where.removeprefix(GIVEN)} that a program gave "
            f"to train(), and no command can make it; give the module in a program: "
            f"train(config, encoder=module), or load_encoder(workdir, encoder=module) "
            f"for the functions of byol_bnfree.evaluation."
        )
    if where in ARCHITECTURES:
        raise InputError(
            f"model is {where!r}, which is a network of this package; give "
            f"--model.name={where}, or FILE:FUNCTION for one of your own."
        )
    function = load_function(where, "model")
    with repaired_by_the_user(f"model {where}", where.rpartition(":")[0], "layers"):
        module = function(layers)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"model {where} returns {type(module).__name__}; it must return a "
            f"flax.linen module."
        )
    return module


def check_encoder(
    module: nn.Module,
    image_shape: tuple[int, int, int],
    where: str,
    small_shape: tuple[int, int, int] | None = None,
) -> None:
    """Raise `InputError` unless the training step can use a module as its encoder.

    The step calls `module(images, train)` on float32 [b h w c]. The module must return
    floats [b d] and may keep only parameters and `batch_stats`, whose floats have at
    least 32 bits: shorter ones would round away most steps of the target. With
    `small_shape` the same parameters must also take small views of this shape. The
    check traces the shapes of two images and computes nothing.
    """
    key = jax.random.key(0)

    def run(images):
        _, variables = module.init_with_output(key, images, True)
        y, changed = module.apply(variables, images, True, mutable=["batch_stats"])
        return y, module.apply(variables, images, False), variables, changed

    y, again, variables, _ = _explained(run, where, _two(image_shape))
    other = set(variables) - {"params", "batch_stats", "intermediates"}
    if other or "params" not in variables:
        raise InputError(
            f"model {where} has {', '.join(sorted(other)) or 'no parameters'}; an "
            f"encoder may have params and batch_stats only."
        )
    _check_dtypes(variables, where)
    # Two images tell the axis of the batch from an axis of size 1.
    shape = getattr(y, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != 2 or again.shape != shape:
        raise InputError(
            f"model {where} gives {shape or type(y).__name__} for 2 images; it must "
            f"give representations [b d]."
        )
    if small_shape is not None:
        _check_small(module, variables, small_shape, shape, where)


def _check_dtypes(variables: Any, where: str) -> None:
    """Raise `InputError` for a parameter or statistic of less than 32 bits."""
    for collection in ("params", "batch_stats"):
        for name, leaf in by_path(variables.get(collection, {})).items():
            if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4:
                raise InputError(
                    f"model {where} keeps {name} of its {collection} in {leaf.dtype}; "
                    f"keep it in float32 (param_dtype), and compute in {leaf.dtype} "
                    f"with the dtype of the layer."
                )


def _check_small(
    module: nn.Module, variables: Any, small_shape: tuple, wanted: tuple, where: str
) -> None:
    """Raise `InputError` unless a module takes small views with these variables."""

    def run(images, variables):
        return module.apply(variables, images, True, mutable=["batch_stats"])[0]

    needs = "small views pass through it too, so remove --views.small or change it"
    y = _explained(run, where, _two(small_shape), variables, needs=needs)
    found = getattr(y, "shape", None)
    if found != wanted:
        raise InputError(
            f"model {where} gives {found} for 2 small views of {small_shape}, and "
            f"{wanted} for large ones; remove --views.small, or use an encoder whose "
            f"representations have one width."
        )


def _two(shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2, *shape), jnp.float32)


def _explained(
    run: Callable[..., Any],
    where: str,
    images: Any,
    *others: Any,
    needs: str = "it is called as module(images, train)",
) -> Any:
    """Trace `run` on images; errors become an `InputError` that names the model."""
    try:
        return jax.eval_shape(run, images, *others)
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, InvalidRngError):
            needs = "an encoder may draw no random numbers in training, as Dropout does"
        raise InputError(
            f"model {where} fails{in_line(error, where.rpartition(':')[0])} on images "
            f"{images.shape} with {type(error).__name__}: "
            f"{first_line(error).rstrip('.')}; {needs}."
        ) from error
