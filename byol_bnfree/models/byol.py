"""BYOL's encoder, projector, predictor and linear probe as one network.

The training step calls `init` and `apply` of its modules only here. The network has two
trees of parameters: the online tree holds all parts, the target tree holds the encoder
and the projector. Each tree has a tree of statistics beside it, which is `{}` without
BatchNorm.

P1 is the BYOL paper (arXiv 2006.07733). P2 is "BYOL works even without batch
statistics" (arXiv 2010.10241).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.models.initializers import draw_kernels
from byol_bnfree.settings.names import TargetInit

Tree = dict[str, Any]


class Variables(NamedTuple):
    """Parameters and statistics of the online and the target network; float32."""

    online_params: Tree
    online_stats: Tree
    target_params: Tree
    target_stats: Tree


class Outputs(NamedTuple):
    """The online network's outputs for one view; float32."""

    representation: Float[Array, "b d"]
    projection: Float[Array, "b k"]
    prediction: Float[Array, "b k"]
    logits: Float[Array, "b c"] | None


@dataclass(frozen=True)
class BYOLNetwork:
    """BYOL's modules; `probe` is None where there are no labels."""

    encoder: nn.Module
    projector: nn.Module
    predictor: nn.Module
    probe: nn.Module | None
    views: int = 1
    """Number of views of each image in a training batch. They lie side by side:
    [(b v) ...]."""
    own_encoder: bool = False
    """True if the encoder is a user's module. It then draws its own kernels."""
    predictor_start: str = "drawn"
    """identity: the only kernel of the predictor starts as the identity matrix."""
    small_predictor: nn.Module | None = None
    """The predictor of small views; None if they share the other one, or are absent."""

    def init(
        self,
        key: Array,
        images: Float[Array, "b h w c"],
        target_init: TargetInit = "independent",
    ) -> Variables:
        """Initialize both networks from images [b h w c].

        Only their shape matters, except to a user's encoder that reads its images, and
        to data-dependent initialization. The target draws its own parameters with
        "independent" and copies the online network's with any other `target_init`.
        """
        online_key, target_key = jax.random.split(key)
        online_params, online_stats = self._init(online_key, images)
        # A copy has buffers of its own, so that a state can be donated.
        target_params, target_stats = jax.tree.map(
            jnp.copy, (online_params, online_stats)
        )
        if target_init == "independent":
            target_params, target_stats = self._init(target_key, images)
        return Variables(
            online_params,
            online_stats,
            target_part(target_params),
            target_part(target_stats),
        )

    def _init(self, key: Array, images: Array) -> tuple[Tree, Tree]:
        params, stats = {}, {}

        def init(part: str, x: Array, *train: bool) -> Array:
            """Initialize one part, and return its output."""
            module = getattr(self, part)
            x, variables = module.init_with_output(key, x, *train)
            # Every part gets the same key. The kernels are drawn anew below, each with
            # its own piece of one draw.
            params[part] = variables["params"]
            if "batch_stats" in variables:
                stats[part] = variables["batch_stats"]
            return x

        representation = init("encoder", images, True)
        projection = init("projector", representation, True)
        init("predictor", projection, True)
        if self.small_predictor is not None:
            init("small_predictor", projection, True)
        if self.probe is not None:
            init("probe", representation)
        own = {"encoder": params.pop("encoder")} if self.own_encoder else {}
        params = own | draw_kernels(key, params)
        if self.predictor_start == "identity":
            for part in params.keys() & {"predictor", "small_predictor"}:
                layer = params[part]["fc1"]
                layer["kernel"] = jnp.eye(len(layer["kernel"]), dtype=jnp.float32)
        return params, stats

    def online(
        self,
        params: Tree,
        stats: Tree,
        images: Float[Array, "b h w c"],
        train: bool,
        predictor: str = "predictor",
    ) -> tuple[Outputs, Tree]:
        """Apply the online network to normalized images; also return its statistics.

        `predictor` names the part that predicts: small views may have their own.
        The probe reads the representation through a stop-gradient, so it never trains
        the encoder (as in DeepMind's byol_experiment.py).
        """
        stats = dict(stats)
        y = self._apply("encoder", params, stats, images, train)
        z = self._apply("projector", params, stats, y, train)
        q = self._apply(predictor, params, stats, z, train)
        logits = None
        if self.probe is not None:
            fixed = jax.lax.stop_gradient(y)
            logits = self.probe.apply({"params": params["probe"]}, fixed)
        return Outputs(_float32(y), _float32(z), _float32(q), logits), stats

    def target(
        self,
        params: Tree,
        stats: Tree,
        images: Float[Array, "b h w c"],
        train: bool,
    ) -> tuple[Float[Array, "b k"], Tree]:
        """Return target projections of normalized images, and the target's statistics.

        In training mode BatchNorm normalizes the target's batch by its own statistics
        and updates the target's running statistics, as in DeepMind's code.
        """
        stats = dict(stats)
        y = self._apply("encoder", params, stats, images, train)
        z = self._apply("projector", params, stats, y, train)
        return _float32(z), stats

    def representation(
        self, params: Tree, stats: Tree, images: Float[Array, "b h w c"]
    ) -> Float[Array, "b d"]:
        """Return the encoder's features. BatchNorm reads its running statistics."""
        return _float32(self._apply("encoder", params, dict(stats), images, False))

    def _apply(self, part: str, params: Tree, stats: Tree, x: Array, train: bool):
        """Return the output of one part and put its new statistics into `stats`."""
        module = getattr(self, part)
        if part not in stats:
            return module.apply({"params": params[part]}, x, train)
        variables = {"params": params[part], "batch_stats": stats[part]}
        if not train:
            return module.apply(variables, x, train)
        y, updated = module.apply(variables, x, train, mutable=["batch_stats"])
        stats[part] = updated["batch_stats"]
        return y


def target_part(tree: Tree) -> Tree:
    """Return the encoder and the projector, which are all that a target network has."""
    return {k: v for k, v in tree.items() if k in ("encoder", "projector")}


def _float32(x: Array) -> Array:
    return x.astype(jnp.float32)
