"""The projector and the predictor.

P1 is the BYOL paper (arXiv 2006.07733).
"""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.models.norm import Layers


class MLPHead(nn.Module):
    """Dense, norm, ReLU, ..., dense (P1 section 3.1): [b d] to [b out].

    As in DeepMind's code, the hidden dense layers have a bias. The last dense layer has
    none, and no norm or ReLU follows it. `output_bias` gives it a bias. `depth` counts
    the dense layers (P1 Table 14a). `plain` replaces the dense layer type at the
    positions in `plain_dense`, which count from 1.
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
