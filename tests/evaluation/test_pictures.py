"""The numbers behind the pictures are right, and any number of classes is drawn."""

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

import tiny
from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.shown import drawing, pictures


def test_rows_of_a_confusion_are_shares_of_the_true_class():
    shares = pictures.confusion(np.array([0, 1, 1]), np.array([0, 0, 0]), 2)
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3], [0, 0]])


def test_queries_are_of_as_many_classes_as_there_are():
    labels = np.array([2, 0, 0, 1, 2, 0, 0, 0, 0, 0])
    queries = pictures.spread_queries(labels)
    assert len(set(queries.tolist())) == 8 and (np.diff(labels[queries]) >= 0).all()
    assert set(labels[queries]) == {0, 1, 2}
    assert pictures.spread_queries(labels[:3]).tolist() == [1, 2, 0]


def test_the_plane_holds_the_directions_of_largest_variance():
    angles = np.linspace(0, 3, 50)[:, None] * [[1, 0.2, 0.05]]
    features = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    plane, shares = pictures.principal_plane(features.astype(np.float32))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    total = unit.var(axis=0).sum()
    np.testing.assert_allclose(plane.var(axis=0) / total, shares, rtol=1e-3)
    assert shares[0] > shares[1] and shares.sum() > 0.95


def colors_of(figure, path) -> set:
    figure.savefig(path)
    with Image.open(path) as picture:
        return {color for _, color in picture.convert("RGB").getcolors(2**24)}


@pytest.mark.parametrize("classes", [2, 40])
def test_every_class_has_a_colour_in_the_embedding(classes, tmp_path):
    names = tuple(f"class {i}" for i in range(classes))
    plane = np.random.default_rng(0).normal(size=(classes, 2))
    shares, labels = np.array([0.6, 0.3]), np.arange(classes)
    figure = drawing.draw_embedding(plane, shares, labels, names, "test")
    seen = colors_of(figure, tmp_path / "e.png")
    wanted = np.round(255 * drawing.class_colors(classes)[:, :3])
    assert {tuple(int(x) for x in color) for color in wanted} <= seen
    drawing.draw_confusion(np.eye(classes), names, "test").savefig(tmp_path / "c.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_neighbours_are_framed_by_whether_their_class_is_right(channels, tmp_path):
    pictures, cosines = np.zeros((2, 8, 8, channels), np.uint8), np.array([0.9, 0.8])
    row = drawing.Neighbourhood(pictures[0], "a", pictures, ["a", "b"], cosines)
    seen = colors_of(drawing.draw_neighbours([row, row], "test"), tmp_path / "n.png")
    green, firebrick = (0, 128, 0), (178, 34, 34)
    assert {green, firebrick} <= seen


def test_names_are_drawn_as_they_are(tmp_path):
    """`$` starts no formula, and file names are no classes."""
    names = ("$", "$a_b$", "\\frac{")
    plane, labels = np.random.default_rng(0).normal(size=(3, 2)), np.arange(3)
    shares, black = np.array([0.6, 0.3]), np.zeros((3, 8, 8, 3), np.uint8)
    row = drawing.Neighbourhood(black[0], "$x$", black, [*names], np.ones(3), False)
    for figure in (
        drawing.draw_embedding(plane, shares, labels, names, "$^$"),
        drawing.draw_embedding(plane, shares, labels, (), "$^$"),
        drawing.draw_confusion(np.eye(3), names, "$^$"),
        drawing.draw_neighbours([row], "$^$"),
    ):
        texts = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert texts and not any(text.get_parse_math() for text in texts)
        seen = colors_of(figure, tmp_path / "names.png")
    assert (105, 105, 105) in seen and not {(0, 128, 0), (178, 34, 34)} & seen


def test_a_picture_is_no_neighbour_of_itself():
    bench, source = Bench.__new__(Bench), tiny.light()
    features = np.random.default_rng(0).normal(size=(48, 3))
    bench.__dict__.update(
        train=source, test=source, train_features=features, test_features=features
    )
    for row in pictures.unlabelled_neighbourhoods(bench):
        assert row.name not in row.names and len(row.names) == pictures.NEIGHBOURS
        assert (np.diff(row.cosines) <= 0).all()
