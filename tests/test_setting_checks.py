"""A setting that cannot be is refused in a sentence that names it."""

import dataclasses

import numpy as np
import pytest

from byol_bnfree import InputError, TrainConfig, parse_args
from byol_bnfree.config import (
    AugmentConfig,
    DataConfig,
    InfoNCEConfig,
    MoCoConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ViewConfig,
)
from byol_bnfree.epochs import whole_steps
from byol_bnfree.training.schedules import total_steps


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"norm": "gnws"}, "norm is 'gnws'; it must be one of bn, gn_ws"),
        ({"optim": OptimConfig(name="adam")}, "--optim.name is 'adam'"),
        ({"optim": None}, "optim is None; it must be of type OptimConfig"),
        ({"batch_size": "8"}, "--batch-size is '8'; it must be a whole number"),
        ({"batch_size": True}, "--batch-size is True"),
        ({"batch_size": 8.5}, "--batch-size is 8.5"),
        ({"extend": -1.0}, "--extend is -1.0; it must be a positive number"),
        ({"extend_base_lr": 1.0}, "there is none; add --extend=EPOCHS"),
        ({"seed": 2**31}, "seed is 2147483648"),
        ({"base_lr": float("nan")}, "--base-lr is nan; it must be a finite number"),
        ({"base_lr": 1e-60}, "--base-lr is 1e-60; it must be a finite number: 0, or"),
        ({"optim": OptimConfig(weight_decay=1e300)}, "--optim.weight-decay is 1e+300"),
        ({"infonce": InfoNCEConfig(beta=1e300)}, "--infonce.beta is 1e+300"),
        (
            {"augment": AugmentConfig(mean=(-1e300, 0.0, 0.0))},
            "--augment.mean is (-1e+300, 0.0, 0.0); it must be a tuple of values, each",
        ),
        ({"own_code": ("model",)}, "--own-code is ('model',); it must be checksums"),
        ({"workdir": ""}, "workdir is ''"),
        ({"dataset": "folder:a\0b"}, "dataset is"),
        (
            {"data": DataConfig(channels=17)},
            "--data.channels is 17; it must be from 1 to 16",
        ),
        (
            {"model": ModelConfig(width=1e9)},
            "--model.width is 1000000000.0",
        ),
        ({"run": RunConfig(join_seconds=1e10)}, "--run.join-seconds is 10000000000.0"),
        ({"infonce": InfoNCEConfig(alpha=1e-46)}, "--infonce.alpha is 1e-46; it must"),
        (
            {"moco_v2": MoCoConfig(temperature=1e-30)},
            "--moco-v2.temperature is 1e-30; it must be at least 1e-06",
        ),
        (
            {"model": ModelConfig(name="resnet8v2", last_scale_init=0.0)},
            "--model.last-scale-init is 0, but a block of resnet8v2 ends with a conv",
        ),
        (
            {"norm": "ws", "model": ModelConfig(unit_kernels=True)},
            "the encoder has norm ws; use --norm=gn_ws",
        ),
        (
            {"norm": "bn", "model": ModelConfig(unit_kernels=True)},
            "the encoder has norm bn; use --norm=gn_ws",
        ),
        (
            {
                "norm": "gn_ws",
                "model": ModelConfig(unit_kernels=True, standardize_conv=False),
            },
            "norm gn_ws with plain kernels",
        ),
        ({"data": DataConfig(workers=10**6)}, "--data.workers is 1000000"),
        ({"optim": OptimConfig(momentum=1.0)}, "--optim.momentum is 1.0"),
        (
            {"data": DataConfig(image_size=(16, 0))},
            "--data.image-size is (16, 0); it must be a positive number, or two",
        ),
        ({"augment": AugmentConfig(std=(0.0, 1.0, 1.0))}, "--augment.std is"),
        ({"augment": AugmentConfig(std=())}, "--augment.std is ()"),
        ({"augment": AugmentConfig(mean=(0.5,))}, "--augment.mean has 1 numbers and"),
        (
            {"augment": AugmentConfig(ViewConfig(crop_area=(0.5,)))},
            "--augment.view1.crop-area is (0.5,); it must be a tuple of 2 values",
        ),
        (
            {"augment": AugmentConfig(view2=ViewConfig(blur_sigma=(1e-30, 1.0)))},
            "--augment.view2.blur-sigma is",
        ),
        (
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            "--process-id is 2 of --num-processes 2; it must be from 0 to 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields, sentence):
    with pytest.raises(InputError) as error:
        TrainConfig(**fields)
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["momentum", "tau_base"])
def test_a_share_below_1_is_also_one_in_float32(name):
    most = float(np.nextafter(np.float32(1), np.float32(0)))
    for share in (0.0, 0.999, most, 1 - 2**-25):
        optim = OptimConfig(**{name: share})
        if np.float32(share) < 1:
            assert TrainConfig(optim=optim).optim == optim
            continue
        with pytest.raises(
            InputError, match=f"--optim.{name.replace('_', '-')} is 0.9"
        ):
            TrainConfig(optim=optim)
    assert TrainConfig(optim=OptimConfig(tau_base=1.0))


@pytest.mark.parametrize(
    "fields", [{"batch_size": 1}, {"batch_size": 8, "bn_stat_groups": 8}]
)
def test_batchnorm_of_one_image_is_refused(fields):
    with pytest.raises(InputError, match="two or more images per group"):
        TrainConfig(norm="bn", **fields)


@pytest.mark.parametrize(
    "unused",
    [
        "--objective=moco_v2 --predictor-norm=bn",
        "--model.projector.depth=1 --projector-norm=bn",
    ],
)
def test_batchnorm_that_nothing_passes_leaves_micro_batches_alone(unused):
    config = parse_args([*unused.split(), "--micro-batches=2"])
    with pytest.raises(InputError, match="batch statistics of bn"):
        dataclasses.replace(config, encoder_norm="bn")


@pytest.mark.parametrize("epochs", [2.3, 4.1, 4.6, 0.7, 8.2])
def test_no_step_is_lost_to_rounding(epochs):
    assert whole_steps(epochs, 1000, 100) == round(epochs * 10)


@pytest.mark.parametrize("steps", [1, 3, 7, 29, 99_999])
def test_epochs_may_be_a_quotient(steps):
    assert all(whole_steps(steps * 64 / n, n, 64) == steps for n in range(65, 500))


def test_an_incomplete_batch_is_no_step():
    assert whole_steps(0.999, 1000, 100) == 9


def test_whole_numbers_and_those_of_numpy_are_numbers():
    config = TrainConfig(batch_size=np.int64(8), base_lr=1, steps=np.int32(3))
    assert dataclasses.replace(config, seed=1).base_lr == 1


def test_more_steps_than_the_state_can_count_are_refused():
    with pytest.raises(InputError, match="at most 2,147,483,647"):
        total_steps(TrainConfig(epochs=1e9), 10**6)


def test_three_channels_need_not_be_colours():
    assert not parse_args(["--augment.no-colours"]).augment.colours
