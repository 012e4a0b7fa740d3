"""The device mesh, and how batch and state are distributed over it."""

import math
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from byol_bnfree.config import TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.leaves import by_path
from byol_bnfree.machine.memory import check_memory

SMALLEST_SHARDED = 2**12  # elements; gathering a smaller parameter costs more


def make_mesh(model_devices: int = 1) -> Mesh:
    """Arrange all devices of all processes in the axes `data` and `model`.

    The axes are Auto, because sharded convolution kernels fail in Explicit mode (JAX
    0.10).

    Raises:
      InputError: if `model_devices` does not divide the number of devices.
    """
    devices = jax.device_count()
    if devices % model_devices:
        raise InputError(
            f"--run.model-devices {model_devices} does not divide the {devices} "
            f"devices of this run; choose a divisor of {devices}."
        )
    shape = (devices // model_devices, model_devices)
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def check_batch(config: TrainConfig, mesh: Mesh) -> None:
    """Raise `InputError` unless batch, micro-batches and groups fit the devices.

    A micro-batch takes an equal piece of every device's part of the batch. BatchNorm's
    groups are contiguous pieces of the batch. With micro-batches the groups are those
    of the full batch only if each device's piece of a micro-batch is whole groups.
    """
    size, devices, pieces = config.batch_size, mesh.shape["data"], config.micro_batches
    if size % (devices * pieces):
        cut = f" in {pieces} micro-batches" if pieces > 1 else ""
        raise InputError(
            f"--batch-size {size} cannot be split over {devices} data devices{cut}; "
            f"choose a multiple of {devices * pieces}."
        )
    groups = config.bn_stat_groups
    if pieces > 1 and groups > 1 and groups % (devices * pieces):
        raise InputError(
            f"--bn-stat-groups {groups} with {pieces} micro-batches on {devices} data "
            f"devices is not exact; choose a multiple of {devices * pieces}."
        )


def check_state_fits(abstract_state: Any, view_bytes: int, mesh: Mesh) -> None:
    """Raise `InputError` unless the state and the views of a batch fit the devices.

    Args:
      abstract_state: a tree of shapes with shardings.
      view_bytes: bytes of all views that are in memory at once.
      mesh: the devices.
    """
    state = bytes_of_a_device(abstract_state)
    views = view_bytes / mesh.shape["data"]
    device = mesh.local_devices[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    sharing = 1 if limit else len(mesh.local_devices)  # CPU devices share the memory
    check_memory(
        {
            "the training state": state * sharing,
            "the views of a batch": views * sharing,
        },
        "choose a smaller network or batch, or shard them over more devices",
        limit,
    )


def bytes_of_a_device(abstract_state: Any) -> int:
    """Return the bytes of a device's part of the state, from its shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(abstract_state)
    )


def whole_multiple(n: int, devices: int) -> int:
    """Return the smallest multiple of `devices` that is not below n."""
    return -(-n // devices) * devices


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Split examples over `data`; repeat them over `model`."""
    return NamedSharding(mesh, P("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Put the same value on every device."""
    return NamedSharding(mesh, P())


def splits_state(config: TrainConfig) -> bool:
    """True if the settings ask to split the state over the devices of either axis."""
    return config.shard_state or config.run.model_devices > 1


def left_whole(abstract_state: Any, mesh: Mesh) -> dict[str, int]:
    """Return the arrays that every device holds whole, with their bytes.

    No axis that may be split is a multiple of the number of devices. Small arrays are
    not counted, because they are never split.
    """
    if mesh.size == 1:
        return {}
    return {
        name: leaf.size * leaf.dtype.itemsize
        for name, leaf in by_path(abstract_state).items()
        if leaf.size >= SMALLEST_SHARDED and leaf.sharding.is_fully_replicated
    }


def state_shardings(abstract_state: Any, mesh: Mesh, over_data: bool) -> Any:
    """Choose a sharding for every leaf of the state, from its abstract shapes.

    The last axis (output channels) is split over `model`. With `over_data`, the largest
    remaining axis that `data` divides is split over `data`. Small leaves, and leaves
    without such axes, are replicated. Results do not depend on the sharding.
    """

    def sharding(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        """Choose the axes of one leaf."""
        spec: list[str | None] = [None] * leaf.ndim
        if leaf.ndim > 0 and leaf.size >= SMALLEST_SHARDED:
            if mesh.shape["model"] > 1 and leaf.shape[-1] % mesh.shape["model"] == 0:
                spec[-1] = "model"
            if over_data:
                free = [
                    (size, axis)
                    for axis, size in enumerate(leaf.shape)
                    if spec[axis] is None and size % mesh.shape["data"] == 0
                ]
                if free:
                    spec[max(free)[1]] = "data"
        return NamedSharding(mesh, P(*spec))

    return jax.tree.map(sharding, abstract_state)
