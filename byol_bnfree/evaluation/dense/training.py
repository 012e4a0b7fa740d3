"""Training of a head on the feature maps of an encoder. All dense tasks share it.

P1 (BYOL, https://arxiv.org/abs/2006.07733, appendix D) fine-tunes encoder and head
together by SGD with momentum (`sgd`).

The encoder's norms are fine-tuned, in inference mode, or frozen. The head is new, so
its norms always train.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float

from byol_bnfree.data.dense.example import Example
from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.data.pipeline import Batches
from byol_bnfree.encoder import Encoder, dense_module
from byol_bnfree.evaluation.dense.places import Grid, grid_of
from byol_bnfree.evaluation.dense.settings import DenseSettings
from byol_bnfree.evaluation.dense.sgd import step_rates
from byol_bnfree.evaluation.diverged import check_finite
from byol_bnfree.evaluation.images.views import train_loop
from byol_bnfree.evaluation.kept.unfinished import NOTHING, Unfinished
from byol_bnfree.evaluation.momentum import momentum_update
from byol_bnfree.models.resnet import ResNet
from byol_bnfree.represent import network_input, variables_of
from byol_bnfree.training.gradient import step_key
from byol_bnfree.training.mesh import batch_sharding, replicated
from byol_bnfree.training.part_rates import decayed_mask

Maps = Float[Array, "b h w c"]
Watch = Callable[[int, "FitState", Array], None]


class FitState(NamedTuple):
    """A network in training. `stats` holds BatchNorm's running statistics."""

    params: dict[str, Any]
    """{"encoder": ..., "head": ...}"""
    stats: dict[str, Any]
    momentum: Any


@dataclass(frozen=True)
class Fitter:
    """Trains a head, and perhaps a copy of the encoder, for one task."""

    encoder: Encoder
    head: nn.Module
    """Called as head(last map [b h w c], train); its outputs go to `loss`."""
    loss: Callable[[Any, dict[str, Array], Grid], Float[Array, ""]]
    """From the head's outputs, a batch and the network's grid to the mean loss."""
    settings: DenseSettings
    seed: int
    mesh: Mesh
    unfinished: Unfinished = NOTHING
    colours: Callable[[Array, Array], Array] | None = None
    """Random colours: from a key and pixels [h w c] in [0, 1] to pixels."""

    @cached_property
    def module(self) -> ResNet:
        """The encoder's network with the total stride of the settings."""
        return dense_module(self.encoder.module, self.settings.stride)

    def fit(
        self,
        view: DenseView,
        rate: float,
        watch: Watch | None = None,
        *,
        steps: int | None = None,
    ) -> FitState:
        """Train on random windows of `view`, which depend on seed and step only.

        `watch(step, fitted, loss)` is called after every step, from 1. The network is
        valid until it returns. `steps` is `settings.steps` if None.

        Raises:
          FitDiverged: if its numbers are no longer finite.
        """
        total, size = steps or self.settings.steps, self.settings.batch_size
        rates = step_rates(rate, total, self.settings.warmup_steps)
        batches = Batches(view, size, self.seed, batch_sharding(self.mesh))

        def step(state: FitState, batch: dict, index: Array) -> tuple[FitState, Array]:
            state, loss = self._step(state, batch, index, rates(index))
            if watch is not None:
                watch(int(index) + 1, state, loss)
            return state, loss

        fit = {"rate": rate, "pictures": len(view), "watched": watch is not None}
        start = jax.device_put(self.start(view), replicated(self.mesh))
        snapshot = self.unfinished.snapshot(fit)
        name = f"the fit at the rate {rate:g}"
        fitted = train_loop(step, start, batches, total, snapshot, name)
        check_finite(fitted, name)
        return fitted

    def start(self, view: DenseView) -> FitState:
        """Return the encoder with a new head, which the seed draws."""
        # A step donates its state, so we copy: the encoder is needed again.
        own = jax.tree.map(jnp.copy, dict(self.encoder.variables))
        encode = partial(self.module.apply, own, train=False, method="stages")
        maps = jax.eval_shape(encode, jnp.zeros((1, *view.image_shape)))[-1]
        key = jax.random.key(self.seed)
        init = jax.jit(partial(self.head.init, train=False))
        head = init(key, jnp.zeros(maps.shape, maps.dtype))
        params = {"encoder": own["params"], "head": head["params"]}
        stats = {
            "encoder": own.get("batch_stats", {}),
            "head": head.get("batch_stats", {}),
        }
        return FitState(params, stats, jax.tree.map(jnp.zeros_like, params))

    def outputs(
        self, fitted: FitState, view: DenseView
    ) -> Iterator[tuple[Any, Example, int]]:
        """Yield the head's outputs for all central windows, in inference mode.

        Each item holds the outputs and examples of a batch and the number of its true
        rows. The rows after them repeat the last picture.

        Raises:
          FitDiverged: if an output is not finite.
        """
        size, total = self.settings.batch_size, len(view)
        for start in range(0, total, size):
            rows = np.minimum(np.arange(start, start + size), total - 1)
            batch = view.examples(rows)
            images = jax.device_put(batch["image"], batch_sharding(self.mesh))
            outputs = self._infer(fitted, images)
            # Parameters can be finite and too large for their outputs to be.
            check_finite(outputs, "the fit of a dense task")
            yield outputs, batch, min(size, total - start)

    @cached_property
    def _infer(self) -> Callable[[FitState, Array], Any]:
        def infer(fitted: FitState, images: Array) -> Any:
            pixels = network_input(images, self.encoder.config.augment)
            maps, _ = self._maps(fitted.params["encoder"], fitted, pixels, False)
            variables = variables_of(fitted.params["head"], fitted.stats["head"])
            return self.head.apply(variables, maps, False)

        return jax.jit(infer)

    @cached_property
    def _step(self) -> Callable[..., tuple[FitState, Array]]:
        return jax.jit(self._take_step, donate_argnums=0)

    def _take_step(
        self, state: FitState, batch: dict, index: Array, rate: Array
    ) -> tuple[FitState, Array]:
        """Take one step of SGD; also return the loss before it."""
        pixels = self._pixels(batch, index)
        live = self.settings.encoder == "trained"

        def loss(params: dict) -> tuple[Array, dict]:
            """Return the loss of the batch and the new statistics."""
            moved = live and self.settings.norms == "fine-tuned"
            own = params["encoder"] if live else state.params["encoder"]
            maps, own_stats = self._maps(own, state, pixels, moved)
            variables = variables_of(params["head"], state.stats["head"])
            outputs, updated = self.head.apply(
                variables, maps, True, mutable=["batch_stats"]
            )
            stats = {"encoder": own_stats, "head": updated.get("batch_stats", {})}
            return self.loss(outputs, batch, grid_of(self.module)), stats

        # A frozen encoder is no argument of the gradient, so it has no backward pass.
        trained = {n: p for n, p in state.params.items() if live or n == "head"}
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(trained)
        gradient = self._kept(gradient)
        old = {name: state.momentum[name] for name in trained}
        update, momentum = momentum_update(
            gradient, trained, old, self.settings.weight_decay, nesterov=False
        )
        params = jax.tree.map(lambda p, u: p - rate * u, trained, update)
        return FitState(state.params | params, stats, state.momentum | momentum), value

    def _maps(
        self, params: Any, state: FitState, pixels: Array, train: bool
    ) -> tuple[Maps, Any]:
        """Return the last map, and BatchNorm's statistics after it."""
        variables = variables_of(params, state.stats["encoder"])
        maps, updated = self.module.apply(
            variables, pixels, train, method="stages", mutable=["batch_stats"]
        )
        return maps[-1].astype(jnp.float32), updated.get("batch_stats", {})

    def _pixels(self, batch: dict, index: Array) -> Float[Array, "b h w c"]:
        augment = self.encoder.config.augment
        if self.colours is None:
            return network_input(batch["image"], augment)
        key = step_key(jax.random.key(self.seed), index)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["position"])
        pixels = batch["image"].astype(jnp.float32) / 255
        return network_input(jax.vmap(self.colours)(keys, pixels), augment)

    def _kept(self, gradient: dict) -> dict:
        """Return the gradient, with zeros for frozen norms of the encoder."""
        if "encoder" not in gradient or self.settings.norms != "frozen":
            return gradient
        own = gradient["encoder"]
        kept = jax.tree.map(lambda g, k: g if k else 0 * g, own, decayed_mask(own))
        return gradient | {"encoder": kept}
