"""The pre-activation blocks of ResNet v2 (He et al., arXiv 1603.05027): x + F(x).

Norms and ReLUs stand before the convolutions of F, and nothing follows the sum. So
relu(norm(x)) follows the last block of the network. A projection shortcut starts from
the first relu(norm(x)) of its block, and it has no norm of its own. The stride is on
the first 3x3 convolution, as in BiT (Kolesnikov et al., arXiv 1912.11370).
"""

from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.models.blocks import Block


class PreactivationBlock(Block):
    """The two ends of x + F(x). `last_scale_init` is not used: F ends with a kernel."""

    def start(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h2 w2 d"]]:
        """Return relu(norm(x)), and x, projected if its shape must change."""
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        y = relu(norm(name="norm1")(x, train))
        if self.project:
            x = conv(self.channels, (1, 1), self.stride, name="shortcut_conv")(y)
        return y, x


class PreactivationBasicBlock(PreactivationBlock):
    """x + F(x), where F is two 3x3 convolutions."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        y, x = self.start(x, train)
        y = self.strided(self.channels, name="conv1")(y)
        y = relu(norm(name="norm2")(y, train))
        y = conv(self.channels, (3, 3), kernel_dilation=self.dilation, name="conv2")(y)
        return x + y


class PreactivationBottleneckBlock(PreactivationBlock):
    """x + F(x), where F is a 1x1, a 3x3 and a 1x1 convolution."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h2 w2 d"]:
        conv, norm, relu = self.layers.conv, self.layers.norm, self.layers.relu
        y, x = self.start(x, train)
        y = conv(self.channels // 4, (1, 1), name="conv1")(y)
        y = relu(norm(name="norm2")(y, train))
        y = self.strided(self.channels // 4, name="conv2")(y)
        y = relu(norm(name="norm3")(y, train))
        y = conv(self.channels, (1, 1), name="conv3")(y)
        return x + y
