"""What can be checked of a run before its data are found, which may take minutes."""

from flax import linen as nn

from byol_bnfree.assembly import create_network
from byol_bnfree.config import TrainConfig
from byol_bnfree.interop.start import check_start
from byol_bnfree.machine.jax_settings import check_draws, check_precision
from byol_bnfree.own_code import load_function
from byol_bnfree.training import distributed
from byol_bnfree.training.boards import import_wandb
from byol_bnfree.training.program import devices_and_kernels
from byol_bnfree.training.workdir import check_outside, check_place
from byol_bnfree.whole_run.inputs import begins_from_weights


def check_before_data(config: TrainConfig, encoder: nn.Module | None) -> None:
    """Raise `InputError` for a setting that is wrong whatever the data are.

    These are the batch and the devices, the kernels, the sizes of the network, the
    user's own code, the weights to begin from, the work folder, and packages. The
    arguments are those of `train`. Nothing is written.
    """
    check_precision()
    check_draws()
    _, kernels = devices_and_kernels(config)
    create_network(config, None, kernels=kernels, encoder=encoder)
    if config.augment.function is not None:
        load_function(config.augment.function, "augment.function")
    check_place(config.workdir)
    check_outside(config)
    if begins_from_weights(config):
        check_start(config)
    if config.run.wandb is not None and distributed.is_primary():
        import_wandb()
