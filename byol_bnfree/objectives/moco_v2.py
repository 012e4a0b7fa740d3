"""MoCo v2: find the other view among a queue of earlier keys (arXiv 2003.04297)."""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from byol_bnfree.config import MoCoConfig
from byol_bnfree.losses import l2_normalize
from byol_bnfree.objectives.infonce import cosines
from byol_bnfree.objectives.objective import Objective, Passed


def moco_v2(config: MoCoConfig) -> Objective:
    """Cross-entropy of an image's own key among the queue, summed over both orders.

    Queries are online projections. Keys are projections of the target network, which is
    the moving average. Both have length 1. After the step the keys of both views
    replace the oldest in the queue. There is no predictor.

    MoCo shuffles images over devices, because its BatchNorm sees the images of one
    device only, and a query could recognize its key by them. Our statistics are global,
    so shuffling would not change them. The own key still has the statistics of this
    batch and the queue those of earlier ones, which differ less in large batches.

    Tau is BYOL's, and the queue has 4096 keys unless it is set; MoCo has 0.999 and
    65,536 keys.

    References: He et al. 2019, https://arxiv.org/abs/1911.05722, equation 1; Chen et
    al. 2020, https://arxiv.org/abs/2003.04297. The loss is symmetric as in the authors'
    CIFAR-10 demonstration.
    """

    def term(
        query: Float[Array, "b k"], key: Float[Array, "b k"], queue: Float[Array, "n k"]
    ) -> Float[Array, " b"]:
        """Return the cross-entropy of each query's own key among the queue."""
        query, key = l2_normalize(query), l2_normalize(key)
        # Class 0 is the image's own key. Images of earlier batches are negatives.
        own = jnp.sum(query * key, axis=1, keepdims=True)
        logits = jnp.concatenate([own, cosines(query, queue)], axis=1)
        logits = logits / config.temperature
        return jax.nn.logsumexp(logits, axis=1) - logits[:, 0]

    def loss(passed: Passed) -> Float[Array, " b"]:
        """Return the loss of each example; at least 0. The batch has no negatives."""
        (z1, z2), (t1, t2) = passed.projections, passed.targets
        queue = passed.memory["queue"]
        return term(z1, t2, queue) + term(z2, t1, queue)

    def keys(passed: Passed) -> Float[Array, "b v k"]:
        # The batch is the first axis, along which micro-batches are joined.
        return jnp.stack([l2_normalize(z) for z in passed.targets], axis=1)

    def enqueue(memory: dict[str, Array], kept: Float[Array, "b v k"]):
        """Put the newest keys first and drop the oldest."""
        newest = rearrange(kept, "b v k -> (b v) k")
        queue = jnp.concatenate([newest, memory["queue"]])
        return {"queue": queue[: config.queue]}

    def first_queue(key: Array, width: int) -> dict[str, Array]:
        """Draw random directions, as MoCo's code does."""
        return {"queue": l2_normalize(jax.random.normal(key, (config.queue, width)))}

    return Objective(loss, keep=keys, remember=enqueue, first_memory=first_queue)
