"""One-line mutations of the method, and the tests that should see each.

`before` stands exactly once in its file. Tests are as small as can be: a node id, or
a file with an expression for -k.
"""

from pathlib import Path
from typing import NamedTuple

GOLDEN = "tests/training/test_golden_step.py -k first_step"
THREE = "tests/training/test_golden_step.py -k three_steps"
HEADS = "tests/models/test_golden_heads.py"
AUGMENT = "tests/data/test_augment.py"
STEP = "tests/training/test_step.py"
OPTIM = "tests/training/test_optim.py"
NORM = "tests/models/test_norm.py"
RESNET = "tests/models/test_resnet.py"
PREACTIVATION = "tests/models/test_preactivation.py"
SUM = "return relu(y + self.shortcut(x, train))"
BASIC_END = f'y = norm(name="norm2")(y, train)\n        {SUM}'
BOTTLENECK_END = f"scale_init=self.last_scale_init)(y, train)\n        {SUM}"
LOSSES = "tests/test_losses.py"
PIPELINE = "tests/data/test_pipeline.py"
VIEWS = "tests/training/test_several_views.py"
OBJECTIVES = "tests/objectives/test_losses_of_objectives.py"


class Mutation(NamedTuple):
    """A wrong program: `before` replaced by `after` in one file.

    `file` is in the package, or a path of the repository that begins with experiments/.
    """

    name: str
    file: str
    before: str
    after: str
    tests: str

    @property
    def path(self) -> Path:
        """The file, relative to the repository."""
        outside = self.file.startswith("experiments/")
        return Path(self.file) if outside else Path("byol_bnfree", self.file)


# fmt: off
MUTATIONS = [Mutation(*fields) for fields in [
    # losses
    ("q1 with z1, q2 with z2", "losses.py",
     "regression_loss(q1, z2) + regression_loss(q2, z1)",
     "regression_loss(q1, z1) + regression_loss(q2, z2)", LOSSES),
    ("one order only", "losses.py",
     "regression_loss(q1, z2) + regression_loss(q2, z1)",
     "2 * regression_loss(q1, z2)", LOSSES),
    ("targets receive a gradient", "losses.py",
     "(q1, q2), (z1, z2) = predictions, jax.lax.stop_gradient(targets)",
     "(q1, q2), (z1, z2) = predictions, targets", LOSSES),
    ("targets are not normalized", "losses.py",
     "l2_normalize(prediction) - l2_normalize(target)",
     "l2_normalize(prediction) - target", LOSSES),
    ("unlabelled examples cost something", "losses.py",
     "return jnp.where(labels >= 0, losses, 0.0)", "return losses", LOSSES),
    ("probe trains the encoder", "models/byol.py",
     "fixed = jax.lax.stop_gradient(y)", "fixed = y",
     f"{STEP} -k probe_does_not_train"),
    # moving average
    ("tau and 1 - tau swapped", "training/ema.py",
     "xi + (1 - tau) * (theta[path] - xi)", "xi + tau * (theta[path] - xi)",
     f"{STEP} -k target_moves"),
    ("target follows the old parameters", "training/step.py",
     "ema_update(state.target_params, online_params, tau)",
     "ema_update(state.target_params, state.online_params, tau)",
     f"{STEP} -k target_moves"),
    ("target statistics are averaged away", "training/step.py",
     "target_stats=averaged.target_stats,",
     "target_stats=averaged.online_stats,",
     f"{STEP} -k target_statistics"),
    ("target starts as a copy", "models/byol.py",
     'if target_init == "independent":', 'if target_init == "never":',
     "tests/models/test_byol.py -k different_draws"),
    # masks and optimizer
    ("biases are decayed", "training/part_rates.py",
     'names[-1] not in ("bias", "scale")', 'names[-1] not in ("scale",)',
     f"{OPTIM} -k mask_takes"),
    ("norms' scales are decayed", "training/part_rates.py",
     'names[-1] not in ("bias", "scale") and not any(\n            "norm" in name',
     'names[-1] not in ("bias",) and not any(\n            "nrm" in name',
     f"{OPTIM} -k mask_takes"),
    ("rate is not scaled by the batch", "training/schedules.py",
     "return config.base_lr * config.batch_size / 256", "return config.base_lr",
     f"{OPTIM} -k scales_with_the_batch"),
    ("LARS without its coefficient", "training/optim.py",
     "optax.scale_by_trust_ratio(trust_coefficient=optim.trust_coefficient)",
     "optax.scale_by_trust_ratio()", f"{OPTIM} -k lars_is_deepminds"),
    ("LARS adapts biases too", "training/optim.py",
     "optax.masked(adapt, decayed_mask))", "adapt)", f"{OPTIM} -k lars_is_deepminds"),
    # schedules
    ("tau runs to 1 twice as fast", "training/schedules.py",
     "jnp.cos(jnp.pi * known / total)", "jnp.cos(2 * jnp.pi * known / total)",
     f"{OPTIM} -k schedules_are"),
    ("tau rises from 1", "training/schedules.py",
     "(jnp.cos(jnp.pi * known / total) + 1) / 2",
     "(1 - jnp.cos(jnp.pi * known / total)) / 2", f"{OPTIM} -k schedules_are"),
    ("no warm-up", "training/schedules.py",
     "optax.warmup_cosine_decay_schedule(0.0, peak, warmup, total)",
     "optax.cosine_decay_schedule(peak, total)", f"{OPTIM} -k schedules_are"),
    # heads
    ("heads without ReLU", "models/heads.py",
     'relu(norm(name=f"norm{index}")(x, train))',
     'norm(name=f"norm{index}")(x, train)', "tests/models/test_byol.py -k relu"),
    ("heads end with a bias", "models/heads.py",
     "use_bias=self.output_bias, ", "", "tests/models/test_byol.py -k head_depth"),
    ("a dense layer too many", "models/heads.py",
     "range(1, self.depth)", "range(0, self.depth)",
     "tests/models/test_byol.py -k head_depth"),
    # blocks
    ("basic blocks without shortcut", "models/blocks.py",
     BASIC_END, BASIC_END.replace(SUM, "return relu(y)"), f"{RESNET} -k silent"),
    ("bottlenecks without shortcut", "models/blocks.py",
     BOTTLENECK_END, BOTTLENECK_END.replace(SUM, "return relu(y)"),
     f"{RESNET} -k silent"),
    ("no ReLU after the sum", "models/blocks.py",
     BASIC_END, BASIC_END.replace("relu(y + self.shortcut(x, train))",
                                  "y + self.shortcut(x, train)"),
     f"{RESNET} -k after_the_sum"),
    ("no ReLU in a bottleneck", "models/blocks.py",
     'y = relu(norm(name="norm2")(y, train))', 'y = norm(name="norm2")(y, train)',
     f"{RESNET} -k stands_between"),
    ("shortcut without a norm", "models/blocks.py",
     'x = norm(name="shortcut_norm")(x, train)', "pass", GOLDEN),
    ("every group keeps its stride at 1", "models/resnet.py",
     "factor, before = 2 if group else 1, dilation",
     "factor, before = 1, dilation",
     f"{RESNET} -k stem_decides"),
    ("v2: the shortcut starts before the norm", "models/preactivation.py",
     'name="shortcut_conv")(y)', 'name="shortcut_conv")(x)',
     f"{PREACTIVATION} -k 'of_the_paper and ln-False'"),
    ("v2: nothing follows the last block", "models/resnet.py",
     'x = self.layers.relu(self.layers.norm(name="final_norm")(x, train))', "pass",
     f"{PREACTIVATION} -k 'of_the_paper and ln-False'"),
    ("v2: BiT's max-pool without zeros", "models/resnet.py",
     'x, padding = _framed(x), "VALID"', "pass", f"{PREACTIVATION} -k zeros"),
    ("v2: unit kernels of variance 1 / fan_in", "models/kernels.py",
     "**options) * math.sqrt(fan_in)", "**options)",
     f"{PREACTIVATION} -k unit_kernels"),
    ("max over the image at the end", "models/resnet.py",
     '"b h w c -> b c", "mean"', '"b h w c -> b c", "max"', GOLDEN),
    # norms
    ("GroupNorm over one group", "models/norm.py",
     "groups = max(1, min(max_groups, channels // min_channels))", "groups = 1",
     f"{NORM} -k groups_are"),
    ("normalization forgets the mean", "models/kernels.py",
     "((x.astype(jnp.float32) - mean) * inverse * scale + bias)",
     "(x.astype(jnp.float32) * inverse * scale + bias)",
     f"{NORM} -k normalizes_each_group"),
    ("the bias stands before the scale", "models/kernels.py",
     "* inverse * scale + bias)", "* inverse + bias) * scale", HEADS),
    ("running values decay by 0.99", "models/batch_norm.py",
     "BN_DECAY = 0.9 ", "BN_DECAY = 0.99 ", f"{NORM} -k decay_by"),
    ("WS without its mean", "models/standardize.py",
     "centred = kernel - kernel.mean(inputs, keepdims=True)", "centred = kernel",
     f"{NORM} -k standardized_kernel"),
    ("WS without the fan-in", "models/standardize.py",
     "variance * fan_in + epsilon", "variance + epsilon",
     f"{NORM} -k standardized_kernel"),
    ("a wider law of kernels", "models/initializers.py",
     "sigma = 1 / math.sqrt(math.prod(shape[:-1]))",
     "sigma = math.sqrt(2 / math.prod(shape[:-1]))", f"{NORM} -k initializer"),
    # augmentation
    ("one draw for all examples", "data/augment.py",
     "return jax.vmap(partial(jax.random.fold_in, key))(positions)",
     "return jax.vmap(partial(jax.random.fold_in, key))(0 * positions)",
     f"{AUGMENT} -k drawn_independently"),
    ("both views by one key", "data/augment.py",
     "draw(keys[:, 1], view=augment.view2", "draw(keys[:, 0], view=augment.view2",
     f"{AUGMENT} -k drawn_independently"),
    ("the same draws at every step", "training/gradient.py",
     "return jax.random.fold_in(key, step)", "return key",
     f"{STEP} -k views_of_its_own"),
    ("one position for all examples", "data/pipeline.py",
     "self._rows.astype(np.int32)", "0 * self._rows.astype(np.int32)",
     "tests/data/test_pipeline.py -k its_place"),
    ("view 2 by T", "data/augment.py",
     "view=augment.view2, number=2", "view=augment.view1, number=2",
     f"{AUGMENT} -k of_its_own_distribution"),
    ("multiplicative brightness", "data/image_ops.py",
     "jnp.clip(image + amount, 0, 1)", "jnp.clip(image * (1 + amount), 0, 1)",
     f"{AUGMENT} -k operation_equals"),
    ("solarize the dark pixels", "data/image_ops.py",
     "jnp.where(image < threshold, image, 1 - image)",
     "jnp.where(image >= threshold, image, 1 - image)",
     f"{AUGMENT} -k operation_equals"),
    ("crops' aspect is uniform", "data/one_view.py",
     "aspect = jnp.exp(_between((math.log(low), math.log(high)), numbers[1]))",
     "aspect = _between((low, high), numbers[1])",
     f"{AUGMENT} -k tall_as_wide"),
    ("flips up and down", "data/image_ops.py",
     '"""Mirror left and right."""\n    return image[:, :, ::-1]',
     '"""Mirror left and right."""\n    return image[:, ::-1]',
     f"{AUGMENT} -k flips_are_left"),
    ("views are not normalized", "data/views.py",
     "return normalized(drawn, augment)", "return drawn",
     f"{STEP} -k views_are_normalized"),
    # order of the data
    ("the same order in every epoch", "data/pipeline.py",
     "default_rng([seed, epoch])", "default_rng([seed, 0])",
     f"{PIPELINE} -k full_permutation"),
    # sharding and micro-batches
    ("gradients of micro-batches are summed", "training/gradient.py",
     "jax.tree.map(mean, total),", "total,",
     f"{STEP} -k 'micro_batches_equal and gn_ws-2'"),
    ("micro-batches cut across devices", "training/gradient.py",
     '"(d k b) ... -> k (d b) ..."', '"(k d b) ... -> k (d b) ..."',
     f"{STEP} -k micro_batches_keep"),
    ("views side by side in the wrong order", "training/passes.py",
     '"b v ... -> (b v) ..."', '"b v ... -> (v b) ..."',
     f"{STEP} -k 'passed_alone and gn_ws'"),
    ("large state is not sharded", "training/mesh.py",
     'spec[max(free)[1]] = "data"', "pass", f"{STEP} -k 'sharded_state and gn_ws'"),
    ("a batch that devices do not divide", "training/mesh.py",
     "if size % (devices * pieces):", "if False:",
     f"{STEP} -k devices_do_not_divide"),
    # objectives
    ("BYOL predicts a view's own target", "objectives/byol.py",
     "distance(q1, t2) + distance(q2, t1)", "distance(q1, t1) + distance(q2, t2)",
     f"{OBJECTIVES} -k equation_2"),
    ("BYOL in one order only", "objectives/byol.py",
     "distance(q1, t2) + distance(q2, t1)", "2 * distance(q1, t2)",
     f"{OBJECTIVES} -k equation_2"),
    ("the fitted predictor is that of its own view", "objectives/byol.py",
     "fitted(z1, t2), fitted(z2, t1)", "fitted(z1, t1), fitted(z2, t2)",
     f"{OBJECTIVES} -k closed_form"),
    ("negatives attract", "objectives/infonce.py",
     "attraction + 2 * config.alpha", "attraction - 2 * config.alpha",
     f"{OBJECTIVES} -k ntxent"),
    ("a view is its own negative", "objectives/infonce.py",
     "itself = jnp.eye(len(query), dtype=bool)",
     "itself = jnp.zeros((len(query),) * 2, dtype=bool)", f"{OBJECTIVES} -k ntxent"),
    ("the view itself is masked in the other view", "objectives/infonce.py",
     "within = jnp.where(itself, -jnp.inf, cosines(query, same) / alpha)",
     "within = jnp.where(itself, -jnp.inf, cosines(query, other) / alpha)",
     f"{OBJECTIVES} -k equation_6"),
    ("negatives without their temperature", "objectives/infonce.py",
     "across = cosines(query, other) / alpha", "across = cosines(query, other)",
     f"{OBJECTIVES} -k ntxent"),
    ("the weight of the negatives lacks alpha", "objectives/infonce.py",
     "attraction + 2 * config.alpha * config.beta * crowd",
     "attraction + 2 * config.beta * crowd", f"{OBJECTIVES} -k equation_6"),
    ("MoCo compares a view with its own key", "objectives/moco_v2.py",
     "term(z1, t2, queue) + term(z2, t1, queue)",
     "term(z1, t1, queue) + term(z2, t2, queue)", f"{OBJECTIVES} -k moco"),
    ("the own key is a negative", "objectives/moco_v2.py",
     "jax.nn.logsumexp(logits, axis=1) - logits[:, 0]",
     "jax.nn.logsumexp(logits, axis=1) - logits[:, 1]", f"{OBJECTIVES} -k moco"),
    ("the newest keys leave the queue", "objectives/moco_v2.py",
     'jnp.concatenate([newest, memory["queue"]])',
     'jnp.concatenate([memory["queue"], newest])', f"{OBJECTIVES} -k oldest_keys"),
    ("keys in the queue have any length", "objectives/moco_v2.py",
     "jnp.stack([l2_normalize(z) for z in passed.targets], axis=1)",
     "jnp.stack([z for z in passed.targets], axis=1)", f"{OBJECTIVES} -k length_1_in"),
    ("the diagonal counts as redundant", "objectives/barlow_twins.py",
     "jnp.sum(jnp.square(correlation)) - jnp.sum(jnp.square(own))",
     "jnp.sum(jnp.square(correlation))", f"{OBJECTIVES} -k barlow"),
    ("views of Barlow Twins disagree", "objectives/barlow_twins.py",
     "jnp.square(1 - own)", "jnp.square(1 + own)", f"{OBJECTIVES} -k barlow"),
    ("SimSiam is four times as large", "objectives/simsiam.py",
     "passed.targets) / 4", "passed.targets)", f"{OBJECTIVES} -k simsiam"),
    ("SimSiam has a target network", "objectives/simsiam.py",
     'target="stop_gradient"', 'target="moving_average"',
     "tests/objectives/test_steps_of_objectives.py -k targets_of_simsiam"),
    ("every view has the turn of the first", "objectives/rotation.py",
     "passed.answers[:, view]", "passed.answers[:, 0]",
     f"{OBJECTIVES} -k sure_predictor"),
    ("views are turned clockwise", "objectives/rotation.py",
     "jnp.rot90(image, k)", "jnp.rot90(image, -k)", f"{OBJECTIVES} -k turned_by_key"),
    # several views
    ("a view predicts the next one only", "objectives/several_views.py",
     "for j in range(count) if j != i", "for j in [(i + 1) % count]",
     f"{VIEWS} -k 'pairs_are or fastsiams'"),
    ("the mean of targets is not normalized", "objectives/several_views.py",
     "large = centre(large.mean(1))[:, None]", "large = large.mean(1)[:, None]",
     f"{VIEWS} -k fastsiams"),
    ("the loss is a sum over views", "objectives/several_views.py",
     "(2 / views)", "1", f"{VIEWS} -k fastsiams"),
    ("the probe reads every view", "training/several_views.py",
     "return loss, is_first * probe_of(", "return loss, probe_of(",
     f"{VIEWS} -k two_views_one_at_a_time"),
    ("small views use the other predictor", "training/several_views.py",
     'return "small_predictor" if', 'return "predictor" if', f"{VIEWS} -k predictor"),
    ("third views are drawn like the first", "data/views.py",
     "_view(index, keys[:, index],", "_view(index, keys[:, index % 2],",
     f"{VIEWS} -k drawn_anew"),
]]
# fmt: on
