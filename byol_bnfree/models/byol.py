"""BYOL's encoder, projector, predictor and linear probe as one network.

Only this module calls `init` and `apply`. The network has two trees of parameters: the
online tree holds all parts, the target tree holds the encoder and the projector. Each
tree has a tree of statistics beside it, which is `{}` without BatchNorm.

P1 is the BYOL paper (arXiv 2006.07733). P2 is "BYOL works even without batch
statistics" (arXiv 2010.10241).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from byol_bnfree.config import TURNS, HeadConfig, Norm, TargetInit, TrainConfig
from byol_bnfree.errors import InputError
from byol_bnfree.models.heads import MLPHead
from byol_bnfree.models.initializers import draw_kernels, fan_in_init
from byol_bnfree.models.kernels import XLA, Kernels
from byol_bnfree.models.norm import layers_for
from byol_bnfree.models.own import load_encoder_module
from byol_bnfree.models.resnet import create_encoder
from byol_bnfree.precision import resolve_dtype

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
        """Initialize both networks from images [b h w c], of which only shapes matter.

        The target draws its own parameters with "independent" and copies the online
        network's with any other `target_init`.
        """
        online_key, target_key = jax.random.split(key)
        online_params, online_stats = self._init(online_key, images)
        target_params, target_stats = online_params, online_stats
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
                layer["kernel"] = jnp.eye(len(layer["kernel"]))
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
        return Outputs(y, _float32(z), _float32(q), logits), stats

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
        return self._apply("encoder", params, dict(stats), images, False)

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


def part_norms(config: TrainConfig) -> dict[str, Norm]:
    """Return the norm of each part. No other function decides this."""
    return {
        "encoder": config.encoder_norm or config.norm,
        "projector": config.projector_norm or config.norm,
        "predictor": config.predictor_norm or config.norm,
    }


def encoder_name(config: TrainConfig) -> str:
    """Return a name such as resnet14, or the name of a user's function or class."""
    if config.encoder is None:
        return config.model.name
    return config.encoder.rpartition(":")[2]


def create_network(
    config: TrainConfig,
    num_classes: int | None,
    stat_groups: int | None = None,
    kernels: Kernels = XLA,
    views: int = 1,
    encoder: nn.Module | None = None,
) -> BYOLNetwork:
    """Build the network of a configuration.

    Args:
      config: the settings of the run.
      num_classes: outputs of the linear probe; None builds no probe.
      stat_groups: replaces `config.bn_stat_groups`. A micro-batch has fewer groups.
      kernels: the functions that compute the layers.
      views: views of each image in a training batch, side by side. With a user's
        encoder this becomes 1, because its statistics do not know about views.
      encoder: a module that replaces the configuration's encoder.

    Raises:
      InputError: for sizes that do not fit each other, and for a --model that returns
        no Flax module.
    """
    model = config.model
    own = encoder is not None or config.encoder is not None
    views = 1 if own else views
    if own and config.remat:
        raise InputError(
            "--remat knows the stages of the networks of --model.name, and this "
            "encoder is your own; leave --remat away, or use flax.linen.remat in its "
            "code."
        )
    dtype = jnp.dtype(resolve_dtype(config.compute_dtype))
    options = {
        "groups": model.groups,
        "min_group_channels": model.min_group_channels,
        "standardize_conv": model.standardize_conv,
        "standardize_dense": model.standardize_dense,
        "stat_groups": stat_groups or config.bn_stat_groups,
        "views": views,
        "kernels": kernels,
    }
    norms = part_norms(config)

    def head(part: str) -> MLPHead:
        """The projector or the predictor, by its name in `ModelConfig`."""
        head: HeadConfig = getattr(model, part)
        layers = layers_for(norms[part], dtype=dtype, **options)
        plain = options | {"standardize_dense": False}
        return MLPHead(
            head.hidden,
            prediction_width(config) if part == "predictor" else head.out,
            head.depth,
            layers,
            output_bias=head.output_bias,
            plain_dense=head.plain_dense,
            plain=layers_for(norms[part], dtype=dtype, **plain).dense,
        )

    if config.encoder is not None and encoder is None:
        layers = layers_for(norms["encoder"], dtype=dtype, **options)
        encoder = load_encoder_module(config.encoder, layers)
    return BYOLNetwork(
        encoder=encoder or _encoder(config, dtype, options),
        own_encoder=own,
        projector=head("projector"),
        predictor=head("predictor"),
        probe=nn.Dense(num_classes, kernel_init=fan_in_init) if num_classes else None,
        views=views,
        predictor_start=model.predictor_start,
        small_predictor=head("predictor") if has_small_predictor(config) else None,
    )


def has_small_predictor(config: TrainConfig) -> bool:
    """True if small views have a predictor of their own."""
    return config.views.small > 0 and config.views.small_predictor == "own"


def prediction_width(config: TrainConfig) -> int:
    """Outputs of the predictor: a projection's, or one for each quarter turn."""
    return TURNS if config.objective == "rotation" else config.model.predictor.out


def _encoder(config: TrainConfig, dtype, options) -> nn.Module:
    model = config.model
    return create_encoder(
        model.name,
        norm=part_norms(config)["encoder"],
        width=model.width,
        stem=model.stem,
        stem_stride=model.stem_stride,
        stem_channels=model.stem_channels,
        last_scale_init=model.last_scale_init,
        dtype=dtype,
        padding=model.padding,
        shortcuts=model.shortcuts,
        remat=config.remat,
        **options,
    )
