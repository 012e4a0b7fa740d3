"""The heads of segmentation and depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from byol_bnfree.evaluation.dense.heads import (
    DepthHead,
    FcnHead,
    LinearHead,
    UpConvolution,
)
from byol_bnfree.models.norm import NORMS, layers_for

MAPS = jax.random.normal(jax.random.key(0), (2, 4, 3, 8))


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def test_an_up_convolution_is_unpooling_with_zeros_and_a_5x5_convolution():
    head = UpConvolution(6, layers_for("none"))
    params = head.init(jax.random.key(1), MAPS)["params"]
    kernel = np.zeros((5, 5, 8, 6), np.float32)
    taps = {"even": [0, 2, 4], "odd": [1, 3]}
    for row, rows in taps.items():
        for column, columns in taps.items():
            part = params[f"conv_{row}_{column}"]["kernel"]
            kernel[np.ix_(rows, columns)] = part
    unpooled = jnp.zeros((2, 8, 6, 8)).at[:, ::2, ::2].set(MAPS)
    layout = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(
        unpooled, kernel, (1, 1), "SAME", dimension_numbers=layout
    )
    found = head.apply({"params": params}, MAPS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_papers_heads_have_the_papers_sizes():
    maps = jax.ShapeDtypeStruct((1, 8, 10, 2048), jnp.float32)
    key = jax.random.key(0)
    depth = DepthHead(layers_for("bn"))
    variables = jax.eval_shape(depth.init, key, maps)
    params = shapes(variables["params"])
    found = [params[f"up{i}"]["conv2"]["kernel"] for i in range(4)]
    assert found == [(3, 3, c, c) for c in (512, 256, 128, 64)]
    out = jax.eval_shape(depth.apply, variables, maps)
    assert out.shape == (1, 128, 160, 1)  # as in arXiv 1606.00373, figure 1
    fcn = FcnHead(21, layers_for("bn"))
    params = shapes(jax.eval_shape(fcn.init, key, maps)["params"])
    assert params["conv1"]["kernel"] == (3, 3, 2048, 256)
    assert params["conv2"]["kernel"] == (3, 3, 256, 256)
    assert params["prediction"]["kernel"] == (256, 21)


@pytest.mark.parametrize("head", [FcnHead, DepthHead])
def test_every_norm_gives_a_head_the_same_parameters(head):
    options = {"outputs": 3} if head is FcnHead else {"blocks": 2}
    trees = [
        shapes(
            jax.eval_shape(
                head(layers=layers_for(norm), **options).init, jax.random.key(0), MAPS
            )["params"]
        )
        for norm in NORMS
    ]
    assert all(tree == trees[0] for tree in trees)


def test_only_bn_lets_a_head_see_the_other_pictures():
    for norm in ("bn", "gn_ws"):
        head = FcnHead(2, layers_for(norm, min_group_channels=2), width=8)
        variables = head.init(jax.random.key(0), MAPS)
        apply = lambda x: head.apply(variables, x, True, mutable=["batch_stats"])[0]  # noqa: B023, E731
        other = jnp.concatenate([MAPS[:1], 3 * MAPS[1:] + 1])
        same = bool(jnp.allclose(apply(MAPS)[0], apply(other)[0], atol=1e-5))
        assert same == (norm == "gn_ws")


def test_a_linear_head_sees_one_place_at_a_time():
    head = LinearHead(5)
    variables = head.init(jax.random.key(0), MAPS)
    whole = head.apply(variables, MAPS)
    np.testing.assert_allclose(
        whole[:, 1:2, 2:3], head.apply(variables, MAPS[:, 1:2, 2:3]), rtol=1e-5
    )
