"""Write a file as DeepMind's BYOL wrote its checkpoints: `haiku_file.py FOLDER`.

`haiku_file.py FOLDER 64 32 4096 256` writes one of the released ResNet-50's size.

Needs dm-haiku and dill, so it runs in a Python of its own, and imports nothing of ours.
`checkpoint.pkl` has the structure of the released files. `expected.npz` holds images
and Haiku's features of them.
"""

import collections
import functools
import sys
from pathlib import Path

import dill
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


class ResNetTorso(hk.nets.ResNet):
    """Haiku's residual network without its classifier."""

    def __call__(self, inputs, is_training):
        x = jax.nn.relu(self.initial_batchnorm(self.initial_conv(inputs), is_training))
        x = hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), padding="SAME")
        for group in self.block_groups:
            x = group(x, is_training, False)
        return jnp.mean(x, axis=(1, 2))


def head(name: str, x, hidden: int, out: int, is_training: bool):
    """Two dense layers with BatchNorm between them."""

    class MLP(hk.Module):
        def __call__(self, x):
            x = hk.Linear(hidden)(x)
            norm = hk.BatchNorm(True, True, 0.9)
            return hk.Linear(out, with_bias=False)(jax.nn.relu(norm(x, is_training)))

    return MLP(name=name)(x)


def forward(images, is_training: bool, width: int, hidden: int, out: int):
    """Representation, after all parts have been called as in BYOL."""
    torso = ResNetTorso(
        (3, 4, 6, 3),
        num_classes=10,
        channels_per_group=tuple(width * c for c in (4, 8, 16, 32)),
        initial_conv_config={"output_channels": width},
        name="res_net50",
    )
    y = torso(images, is_training)
    z = head("projector", y, hidden, out, is_training)
    head("predictor", z, hidden, out, is_training)
    hk.Linear(10, name="classifier")(y)
    return y


def record(module: str, name: str, values: tuple, fields: str = ""):
    """A named tuple as it stands in a module that is not installed here."""
    return collections.namedtuple(name, fields, module=module)(*values)


def main(
    folder: Path, width: int = 8, size: int = 32, hidden: int = 32, out: int = 16
) -> None:
    """Three training passes move the statistics; then everything is written."""
    net = hk.transform_with_state(
        functools.partial(forward, width=width, hidden=hidden, out=out)
    )
    images = np.random.default_rng(0).normal(size=(4, size, size, 3))
    images = images.astype(np.float32)
    params, state = jax.jit(net.init, static_argnums=2)(jax.random.key(1), images, True)
    for _ in range(3):
        _, state = jax.jit(net.apply, static_argnums=4)(
            params, state, None, images, True
        )
    features, _ = jax.jit(net.apply, static_argnums=4)(
        params, state, None, images, False
    )
    flat = hk.data_structures.to_immutable_dict
    params, state = jax.device_get((flat(params), flat(state)))
    half = jax.tree.map(lambda x: x / 2, params)
    optimizer = (
        record("byol.utils.optimizers", "AddWeightDecayState", ()),
        record("byol.utils.optimizers", "ScaleByLarsState", (half,), "mu"),
        record("optax._src.base", "EmptyState", ()),
    )
    experiment = record(
        "byol.byol_experiment",
        "_ByolExperimentState",
        (params, half, state, state, optimizer),
        "online_params target_params online_state target_state opt_state",
    )
    data = dict(experiment_state=experiment, step=300_000, rng=np.zeros(2, np.uint32))
    with open(folder / "checkpoint.pkl", "wb") as file:
        dill.dump(data, file, protocol=2)
    np.savez(folder / "expected.npz", images=images, features=features)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
