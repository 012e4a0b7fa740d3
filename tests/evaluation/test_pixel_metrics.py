"""Metrics and losses of segmentation and depth, against numbers from elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byol_bnfree.evaluation.dense.heads import resized
from byol_bnfree.evaluation.dense.losses import cross_entropy, reverse_huber
from byol_bnfree.evaluation.dense.pixel_metrics import (
    DepthSums,
    class_counts,
    segmentation_figures,
)
from byol_bnfree.evaluation.dense.places import Grid


def numbers():
    """Classes, depths, scores and labels; the order of the draws matters."""
    d = np.random.default_rng(0)
    predicted, mask = d.integers(0, 4, (3, 6, 5)), d.integers(0, 4, (3, 6, 5))
    mask[:, 0] = 255
    mask[1] = np.where(mask[1] == 2, 1, mask[1])
    depths = d.uniform(0.5, 5, (2, 4, 4)), d.uniform(0.5, 5, (2, 4, 4))
    scores, labels = d.standard_normal((2, 3, 3, 4)), d.integers(0, 4, (2, 3, 3))
    labels[0, 0] = 255
    return predicted, mask, *depths, scores, labels


PREDICTED, MASK, DEPTH, TRUE, SCORES, LABELS = numbers()


def test_mean_iou_is_that_of_torchmetrics():
    counts = class_counts(PREDICTED, MASK, 5)  # class 4 never occurs
    figures = segmentation_figures(counts)
    # MulticlassJaccardIndex(5, "macro", ignore_index=255) of torchmetrics 1.9.0
    assert figures["miou"] == pytest.approx(0.19011035561561584, abs=1e-6)
    assert figures["pixel_accuracy"] == pytest.approx(
        np.mean((PREDICTED == MASK)[MASK != 255])
    )


def test_rows_of_counts_are_true_classes_and_columns_predicted_ones():
    counts = class_counts(np.array([1, 1, 2]), np.array([0, 1, 255]), 3)
    assert counts.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_depth_errors_are_those_of_torchmetrics():
    figures = DepthSums().plus(DEPTH, TRUE).figures()
    # MeanSquaredError(squared=False) and MeanAbsolutePercentageError, 1.9.0
    assert figures["rms"] == pytest.approx(2.108513832092285, rel=1e-6)
    assert figures["rel"] == pytest.approx(1.016818642616272, rel=1e-6)


def test_the_shares_of_near_depths_are_those_of_monodepth2():
    figures = DepthSums().plus(DEPTH, TRUE).figures()
    # torchmetrics has no such metric. This is compute_errors of nianticlabs/monodepth2,
    # evaluate_depth.py at 77f1410: its a1, a2 and a3.
    found = [figures[f"pct{n}"] for n in (1, 2, 3)]
    assert found == pytest.approx([0.15625, 0.34375, 0.46875])


def test_the_shares_within_powers_of_1_25_are_counted_by_hand():
    true = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    # 1.25 itself is not within 1.25, and the last has no truth.
    found = np.array([1.2, 1.25, 0.7, 1.9, -1.0, 9.0])
    figures = DepthSums().plus(found, true).figures()
    assert [figures[f"pct{n}"] for n in (1, 2, 3)] == [0.2, 0.6, 0.8]


def test_sums_over_batches_are_sums_over_all():
    parts = DepthSums().plus(DEPTH[:1], TRUE[:1]).plus(DEPTH[1:], TRUE[1:])
    assert parts.figures() == pytest.approx(DepthSums().plus(DEPTH, TRUE).figures())
    for figures in (
        DepthSums().figures(),
        segmentation_figures(np.zeros((3, 3), int)),
    ):
        assert np.isnan(list(figures.values())).all()


def test_cross_entropy_is_that_of_torch_without_ignored_pixels():
    loss = cross_entropy(jnp.asarray(SCORES), jnp.asarray(LABELS))
    # torch.nn.functional.cross_entropy(ignore_index=255), torch 2.13.0
    assert float(loss) == pytest.approx(1.606298111529129, rel=1e-5)
    nothing = cross_entropy(jnp.asarray(SCORES), jnp.full(LABELS.shape, 255))
    assert float(nothing) == 0


def test_reverse_huber_is_its_formula():
    error = np.array([0.1, 0.2, -1.0, 0.5])  # the bend is at 0.2
    true = np.array([1.0, 2.0, 2.0, 1.0])
    loss = reverse_huber(
        *(jnp.asarray(x).reshape(1, 2, 2) for x in (true + error, true))
    )
    expected = [0.1, 0.2, (1 + 0.04) / 0.4, (0.25 + 0.04) / 0.4]
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_reverse_huber_loss_falls_when_any_error_falls():
    true = jnp.full((1, 1, 8), 3.0)
    error = jnp.array([[[2.5, 2.4, 2.3, 2.2, 2.1, 2.0, -0.1, 0.2]]])  # many large ones
    slope = jax.grad(reverse_huber)(true + error, true)
    assert (jnp.sign(slope) == jnp.sign(error)).all()


def test_unknown_depth_does_not_count():
    predicted, true = jnp.array([[[1.5, 9.0]]]), jnp.array([[[1.0, 0.0]]])
    alone = reverse_huber(predicted[..., :1], true[..., :1])
    assert float(reverse_huber(predicted, true)) == pytest.approx(float(alone))
    assert float(reverse_huber(predicted, 0 * true)) == 0


def test_even_maps_are_resized_as_torch_does():
    maps = jnp.arange(6.0).reshape(1, 2, 3, 1)
    # torch.nn.functional.interpolate(mode="bilinear", align_corners=False), 2.13.0
    row = [0.75, 1.0, 1.5, 2.0, 2.5, 2.75]
    found = resized(maps, (4, 6), Grid(2, start=False))
    np.testing.assert_allclose(found[0, 1, :, 0], row, rtol=1e-5)
