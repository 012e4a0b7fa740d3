"""The learning rate of dense tasks, which falls twice. SGD with momentum follows it.

P1 (BYOL, https://arxiv.org/abs/2006.07733, appendix D) gives this schedule for
segmentation. All tasks have it here. P1 names none for depth. The rate of P1's detector
falls at 1 and at 1.2 of 1.5 million steps, and that of FCOS at 60,000 and 80,000 of
90,000. Only kernels decay.
"""

import optax

DROPS = (0.7, 0.9)  # shares of the steps after which the rate falls tenfold
WARM_START = 1 / 3  # share of the rate at the start of a warm-up, as in FCOS's code


def step_rates(rate: float, total: int, warmup: int = 0) -> optax.Schedule:
    """Return the rate of each step: a tenth from 70 % on, a hundredth from 90 % on.

    It rises from a third in the first `warmup` steps, but in at most a tenth of all.
    """
    falling = optax.piecewise_constant_schedule(
        rate, {max(1, round(share * total)): 0.1 for share in DROPS}
    )
    if not (warmup := min(warmup, total // 10)):
        return falling
    rising = optax.linear_schedule(WARM_START, 1.0, warmup)
    return lambda step: rising(step) * falling(step)
