"""Encoder, projector, predictor and probe as one network with two parameter trees.

The only callers of `init` and `apply`. Online parameters hold every part, target
parameters the encoder and the projector. Statistics (`{}` without BatchNorm) travel
beside the parameters, one tree for each network.
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
    """Parameters and statistics of both networks."""

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
    """Of every image in a training batch, side by side: [(b v) ...]."""
    own_encoder: bool = False
    """The encoder is a user's, which draws its own kernels."""
    predictor_start: str = "drawn"
    """identity: the predictor's one kernel starts as the identity."""

    def init(
        self,
        key: Array,
        images: Float[Array, "b h w c"],
        target_init: TargetInit = "independent",
    ) -> Variables:
        """Both networks: the target with a key of its own, or as a copy."""
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
            module = getattr(self, part)
            x, variables = module.init_with_output(key, x, *train)
            params[part] = variables["params"]
            if "batch_stats" in variables:
                stats[part] = variables["batch_stats"]
            return x

        representation = init("encoder", images, True)
        init("predictor", init("projector", representation, True), True)
        if self.probe is not None:
            init("probe", representation)
        own = {"encoder": params.pop("encoder")} if self.own_encoder else {}
        params = own | draw_kernels(key, params)
        if self.predictor_start == "identity":
            layer = params["predictor"]["fc1"]
            layer["kernel"] = jnp.eye(len(layer["kernel"]))
        return params, stats

    def online(
        self,
        params: Tree,
        stats: Tree,
        images: Float[Array, "b h w c"],
        train: bool,
    ) -> tuple[Outputs, Tree]:
        """Online network on normalized images, and its new statistics.

        The probe reads the representation behind a stop-gradient: it never trains
        the encoder (DeepMind's byol_experiment.py).
        """
        stats = dict(stats)
        y = self._apply("encoder", params, stats, images, train)
        z = self._apply("projector", params, stats, y, train)
        q = self._apply("predictor", params, stats, z, train)
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
        """Target projections of normalized images, and the target's statistics."""
        stats = dict(stats)
        y = self._apply("encoder", params, stats, images, train)
        z = self._apply("projector", params, stats, y, train)
        return _float32(z), stats

    def representation(
        self, params: Tree, stats: Tree, images: Float[Array, "b h w c"]
    ) -> Float[Array, "b d"]:
        """Features in inference mode: BatchNorm reads its running statistics."""
        return self._apply("encoder", params, dict(stats), images, False)

    def _apply(self, part: str, params: Tree, stats: Tree, x: Array, train: bool):
        """Output of a part; puts its new statistics into `stats`."""
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
    """The subtree that a target network has: encoder and projector."""
    return {k: v for k, v in tree.items() if k in ("encoder", "projector")}


def _float32(x: Array) -> Array:
    return x.astype(jnp.float32)


def part_norms(config: TrainConfig) -> dict[str, Norm]:
    """Normalization of encoder, projector and predictor: the one function deciding."""
    return {
        "encoder": config.encoder_norm or config.norm,
        "projector": config.projector_norm or config.norm,
        "predictor": config.predictor_norm or config.norm,
    }


def encoder_name(config: TrainConfig) -> str:
    """resnet14, or the name of a user's own function or class."""
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
    """The network of a configuration; no probe if `num_classes` is None.

    `stat_groups` replaces `config.bn_stat_groups` (a micro-batch has fewer groups).
    A training batch holds `views` of every image, side by side. `encoder` takes the
    place of the configuration's; with a user's encoder a batch holds one view, since
    its statistics would know nothing of several.

    Raises:
      InputError: sizes that do not fit each other, or a --model that is no module.
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
    )


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
