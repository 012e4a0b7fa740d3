import pytest

from byol_bnfree.errors import InputError
from byol_bnfree.models.heads import MLPHead
from byol_bnfree.models.norm import layers_for


class Untyped(MLPHead):
    """A head whose fields the tests' type checker does not see."""


LAYERS = layers_for("gn_ws")
PLAIN = layers_for("gn").dense


@pytest.mark.parametrize(
    "fields, why",
    [
        ({"depth": 0}, "depth is 0; it must be a positive number"),
        ({"hidden": 1.5}, "hidden is 1.5; it must be a positive number"),
        ({"out": True}, "out is True; it must be a positive number"),
        ({"layers": "gn_ws"}, "layers is of type str; give a result of layers_for"),
        ({"plain_dense": (9,), "plain": PLAIN}, "the dense layers are 1 to 2; give"),
        ({"plain_dense": (1,)}, "there is no plain; give the type"),
        (
            {"plain_dense": 1, "plain": PLAIN},
            "plain_dense is of type int; give a tuple",
        ),
    ],
)
def test_a_head_that_cannot_be_built_is_refused_at_once(fields, why):
    with pytest.raises(InputError, match=why):
        Untyped(**{"hidden": 8, "out": 4, "depth": 2, "layers": LAYERS} | fields)
