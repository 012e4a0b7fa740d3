"""The projector and the predictor.

P1 is the BYOL paper (arXiv 2006.07733).
"""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.errors import InputError
from byol_bnfree.models.norm import Layers
from byol_bnfree.settings.types import check_kind, is_count


class MLPHead(nn.Module):
    """Dense, norm, ReLU, ..., dense (P1 section 3.1): [b d] to [b out].

    As in DeepMind's code, the hidden dense layers have a bias. The last dense layer has
    none, and no norm or ReLU follows it. `output_bias` gives it a bias. `depth` counts
    the dense layers (P1 Table 14a). `plain` replaces the dense layer type at the
    positions in `plain_dense`, which count from 1.

    Raises:
      InputError: for fields of another kind, for numbers that are not positive, and for
        `plain_dense` without `plain` or beyond `depth`.
    """

    hidden: int
    out: int
    depth: int
    layers: Layers
    output_bias: bool = False
    plain_dense: tuple[int, ...] = ()
    plain: Callable[..., nn.Module] | None = None

    def __post_init__(self):
        check_kind(self.layers, Layers, "layers", "a result of layers_for(norm)")
        for name in ("hidden", "out", "depth"):
            if not is_count(getattr(self, name)):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; it must be a positive number."
                )
        check_kind(self.plain_dense, tuple, "plain_dense", "a tuple, such as (1,)")
        if not {*self.plain_dense} <= {*range(1, self.depth + 1)}:
            raise InputError(
                f"plain_dense is {self.plain_dense}, but the dense layers are 1 to "
                f"{self.depth}; give numbers of these."
            )
        if self.plain_dense and self.plain is None:
            raise InputError(
                f"plain_dense is {self.plain_dense}, but there is no plain; give the "
                f"type of these layers, such as flax.linen.Dense."
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b d"], train: bool = False
    ) -> Float[Array, "b k"]:
        norm, relu = self.layers.norm, self.layers.relu
        for index in range(1, self.depth):
            x = self._dense(index)(self.hidden, name=f"fc{index}")(x)
            x = relu(norm(name=f"norm{index}")(x, train))
        last = self._dense(self.depth)
        return last(self.out, use_bias=self.output_bias, name=f"fc{self.depth}")(x)

    def _dense(self, index: int) -> Callable[..., nn.Module]:
        return self.plain if index in self.plain_dense else self.layers.dense
