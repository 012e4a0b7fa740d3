"""Projector, predictor and loss are DeepMind's: tests/golden/heads.npz, whole arrays.

Two batches of representations take the place of the encoder's two views.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import anchor
from byol_bnfree.losses import byol_loss, regression_loss
from byol_bnfree.models.heads import MLPHead
from byol_bnfree.models.norm import layers_for

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "heads.npz")
HEAD = MLPHead(hidden=64, out=16, depth=2, layers=layers_for("bn"))
TOLERANCE = 1e-4


def representations(network: str) -> list[jax.Array]:
    return [jnp.float32(anchor.draw(f"heads/{network}{i}", (8, 32))) for i in (1, 2)]


def initial(width: int):
    """Shapes of one head's variables."""
    x = jax.ShapeDtypeStruct((8, width), jnp.float32)
    init = functools.partial(HEAD.init, train=True)
    return jax.eval_shape(init, jax.random.key(0), x)


def apply(params, stats, x):
    """Output and the new statistics of a head in training."""
    variables = {"params": params, "batch_stats": stats}
    y, updated = HEAD.apply(variables, x, True, mutable=["batch_stats"])
    return y, updated["batch_stats"]


@functools.cache
def passed():
    """Gradient, and every output, of both views through both networks."""
    shapes = {"projector": initial(32), "predictor": initial(16)}
    like = {part: tree["params"] for part, tree in shapes.items()}
    online = anchor.parameters("heads/online/", like)
    target = anchor.parameters("heads/target/", {"projector": like["projector"]})
    stats = {
        part: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree["batch_stats"])
        for part, tree in shapes.items()
    }
    names = ("representation1", "representation2")
    inputs = online | dict(zip(names, representations("online"), strict=True))

    def loss(inputs):
        moved, out = dict(stats), {}
        target_stats = stats["projector"]
        for view, of_target in enumerate(representations("target"), 1):
            y = inputs[f"representation{view}"]
            z, moved["projector"] = apply(inputs["projector"], moved["projector"], y)
            q, moved["predictor"] = apply(inputs["predictor"], moved["predictor"], z)
            out[f"projection{view}"], out[f"prediction{view}"] = z, q
            z_target, target_stats = apply(target["projector"], target_stats, of_target)
            out[f"target_projection{view}"] = z_target
        predictions = out["prediction1"], out["prediction2"]
        targets = out["target_projection1"], out["target_projection2"]
        out["loss_q1_z2"] = regression_loss(predictions[0], targets[1])
        out["loss_q2_z1"] = regression_loss(predictions[1], targets[0])
        total = byol_loss(predictions, targets).mean()
        statistics = {
            "online_stats": moved,
            "target_stats": {"projector": target_stats},
        }
        return total, out | {"loss": total} | statistics

    gradient, out = jax.jit(jax.grad(loss, has_aux=True))(inputs)
    return out | {"gradient": gradient}


def test_everything_that_the_reference_holds_is_ours():
    found = anchor.by_name(passed())
    for name in GOLDEN:
        if name == "gradient/projector/fc1/bias" or name.endswith("predictor/fc1/bias"):
            # Before a BatchNorm: nothing but rounding is left of it.
            assert np.abs(found[name]).max() < 1e-6, name
        else:
            assert anchor.worst_of_array(found[name], GOLDEN[name]) < TOLERANCE, name


def test_nothing_of_ours_is_missing_in_the_reference():
    ours = {n for n in anchor.by_name(passed()) if not n.endswith("/count")}
    assert ours == set(GOLDEN)
