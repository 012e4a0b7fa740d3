"""Projector and predictor."""

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.models.norm import Layers


class MLPHead(nn.Module):
    """Dense, norm, ReLU, ..., dense (P1 section 3.1): [b d] to [b out].

    Hidden dense layers have a bias, the last has none and nothing after it, as in
    DeepMind's code. `depth` counts dense layers (P1 Table 14a).
    """

    hidden: int
    out: int
    depth: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], train: bool) -> Float[Array, "b k"]:
        _, dense, norm, relu, _ = self.layers
        for index in range(1, self.depth):
            x = dense(self.hidden, name=f"fc{index}")(x)
            x = relu(norm(name=f"norm{index}")(x, train))
        return dense(self.out, use_bias=False, name=f"fc{self.depth}")(x)
