"""Projector and predictor."""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.models.norm import Layers


class MLPHead(nn.Module):
    """Dense, norm, ReLU, ..., dense (P1 section 3.1): [b d] to [b out].

    Hidden dense layers have a bias, the last has none and nothing after it, as in
    DeepMind's code. `depth` counts dense layers (P1 Table 14a). `output_bias` gives the
    last a bias too. `plain` makes the layers of `plain_dense`, counted from 1.
    """

    hidden: int
    out: int
    depth: int
    layers: Layers
    output_bias: bool = False
    plain_dense: tuple[int, ...] = ()
    plain: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b d"], train: bool = False
    ) -> Float[Array, "b k"]:
        _, _, norm, relu, _ = self.layers
        for index in range(1, self.depth):
            x = self._dense(index)(self.hidden, name=f"fc{index}")(x)
            x = relu(norm(name=f"norm{index}")(x, train))
        last = self._dense(self.depth)
        return last(self.out, use_bias=self.output_bias, name=f"fc{self.depth}")(x)

    def _dense(self, index: int) -> Callable[..., nn.Module]:
        return self.plain if index in self.plain_dense else self.layers.dense
