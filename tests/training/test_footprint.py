"""The memory of a step is known before it runs, and what would fit is said."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import tiny
from byol_bnfree.config import RunConfig, ViewsConfig
from byol_bnfree.errors import InputError
from byol_bnfree.machine import memory
from byol_bnfree.training import mesh as meshes
from byol_bnfree.training.footprint import Footprint, footprint
from byol_bnfree.training.gradient import make_gradient
from byol_bnfree.training.mesh import (
    bytes_of_a_device,
    left_whole,
    make_mesh,
    splits_state,
    state_shardings,
)
from byol_bnfree.training.parts import DataShape, build_parts
from byol_bnfree.training.program import build_program, view_bytes
from byol_bnfree.whole_run.introduction import what_stays_whole

FOOTPRINT = Footprint(
    10e9,
    80e9,
    100e9,
    batch_size=256,
    devices=1,
    micro_batches=1,
    cuts=(1, 2, 4, 8, 16, 32),
    remat=True,
)


def test_a_step_that_fits_says_which_batch_would():
    FOOTPRINT.check()
    said = str(FOOTPRINT)
    assert "90.0 GB of 100.0 GB" in said and "batches of up to about 280 fit" in said


def test_a_step_that_does_not_fit_is_refused_with_what_would():
    small = FOOTPRINT._replace(limit=40e9)
    with pytest.raises(InputError, match="about 96 or --micro-batches=4 or --remat"):
        small.check()
    both = small._replace(accumulate=True)
    with pytest.raises(InputError, match="=4 or --views.accumulate or --remat or a"):
        both.check()
    with pytest.raises(InputError, match="choose --remat or a smaller network"):
        FOOTPRINT._replace(limit=9e9).check()


def test_no_batch_is_advised_that_is_larger_than_the_data():
    assert "batches of up to about 280 fit" in str(FOOTPRINT._replace(images=281))
    said = str(FOOTPRINT._replace(images=280))
    assert said.endswith("; batches of all 280 images fit")


@pytest.mark.parametrize(
    "batch, needed, said",
    [
        (256, 99e9, "batches of up to about 256 fit"),  # not 250
        (1024, 99e9, "batches of up to about 1,024 fit"),
        (1104, 50e9, "batches of up to about 2,200 fit"),
        (8, 1e9, "batches of up to about 800 fit"),
    ],
)
def test_a_batch_that_fits_is_never_more_than_what_fits(batch, needed, said):
    state = needed / 100
    one = FOOTPRINT._replace(
        state=state, temporaries=needed - state, batch_size=batch, limit=100e9
    )
    assert said in str(one)


@pytest.mark.parametrize("pieces", [1, 4])
def test_the_advised_batch_can_be_divided_by_the_devices(pieces):
    for batch in range(64, 3000, 96):
        several = FOOTPRINT._replace(
            batch_size=batch,
            devices=8,
            sharing=8,
            temporaries=17e9,
            micro_batches=pieces,
        )
        assert several.fitting % (8 * pieces) == 0 and several.fitting >= batch
        images = batch // 8 // pieces
        assert f"17.0 GB for {images:,} images on each device" in str(several)


def test_more_micro_batches_are_advised_from_the_size_of_one():
    """Halves of 80 GB are quarters of 40 GB and eighths of 20 GB; 30 GB are free."""
    cut = FOOTPRINT._replace(limit=40e9, micro_batches=2, cuts=(4, 8, 16, 32))
    assert cut.pieces == 8


def test_settings_that_the_run_refuses_are_not_advised():
    small = FOOTPRINT._replace(limit=40e9, cuts=(), remat=False)
    with pytest.raises(InputError, match="choose a batch of about 96 or a smaller net"):
        small.check()


def test_a_resumed_run_is_advised_what_it_may_change():
    small = FOOTPRINT._replace(limit=40e9)
    with pytest.raises(InputError, match="choose --micro-batches=4 or --remat or more"):
        small.check(resumed=True)


class Pooling(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(4)(images.mean((1, 2)))


class Reported(NamedTuple):
    """The memory of a compiled step, as a backend reports it."""

    argument_size_in_bytes: int = 10
    output_size_in_bytes: int = 10
    alias_size_in_bytes: int = 10
    temp_size_in_bytes: int = 10

    def memory_analysis(self):
        return self


@pytest.mark.parametrize(
    "fields, encoder, cuts, remat",
    [
        ({"norm": "gn_ws"}, None, (2, 4), True),  # of 8 images on two devices
        ({"norm": "gn_ws", "micro_batches": 2}, None, (4,), True),
        ({"norm": "bn"}, None, (), True),
        ({"norm": "bn", "bn_stat_groups": 4}, None, (2,), True),
        ({"norm": "gn_ws", "objective": "infonce"}, None, (), True),
        ({"norm": "gn_ws", "remat": True}, None, (2, 4), False),
        ({"norm": "gn_ws"}, Pooling(), (2, 4), False),
    ],
)
def test_the_advice_names_settings_that_the_run_accepts(
    fields, encoder, cuts, remat, monkeypatch
):
    data = DataShape(100, 3, (16, 16, 3))
    program = build_program(tiny.config(**fields), data, encoder=encoder)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = footprint(Reported(), program)
    assert (found.cuts, found.remat) == (cuts, remat)


def test_what_a_step_returns_needs_memory_unless_it_was_donated():
    """The two CPU devices of the tests share one memory."""
    program = build_program(tiny.config(), DataShape(100, 3, (16, 16, 3)))
    found = footprint(Reported(10, 17, 10, 30), program)
    assert (found.state, found.temporaries) == (2 * 10, 2 * (30 + 17 - 10))


def test_processes_of_a_launcher_share_the_memory_of_their_machine(monkeypatch):
    program = build_program(tiny.config(), DataShape(100, 3, (16, 16, 3)))
    monkeypatch.setattr(memory, "groups_of", lambda _: [])
    whole = footprint(Reported(), program).limit
    names = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK")
    for name, value in zip(names, "8142", strict=True):  # torchrun's; 4 of 8 are here
        monkeypatch.setenv(name, value)
    assert footprint(Reported(), program).limit == whole // 4


def test_a_setting_that_saves_nothing_on_cpus_is_not_advised_there():
    program = build_program(tiny.config(), DataShape(100, 3, (16, 16, 3)))
    assert not footprint(Reported(), program).remat


@pytest.mark.parametrize(
    "fields, possible",
    [
        ({"norm": "bn"}, True),
        ({"norm": "gn_ws", "views": ViewsConfig(count=4)}, True),
        ({"views": ViewsConfig(accumulate=True)}, False),
        ({"objective": "simsiam"}, False),
    ],
)
def test_views_one_at_a_time_are_advised_where_they_can_pass_so(fields, possible):
    program = build_program(tiny.config(**fields), DataShape(100, 3, (16, 16, 3)))
    assert footprint(Reported(), program).accumulate == possible


def test_all_views_of_a_piece_count_in_float32():
    data = DataShape(100, 3, (16, 8, 3))
    of_two = 4 * 8 * 2 * 16 * 8 * 3  # bytes, images, views, values
    assert view_bytes(tiny.config(norm="gn_ws"), data) == of_two
    assert view_bytes(tiny.config(norm="gn_ws", micro_batches=4), data) == of_two / 4
    many = tiny.config(views=ViewsConfig(count=3, small=4))  # of a quarter each
    assert view_bytes(many, data) == of_two * 2


def test_pieces_and_batches_that_are_advised_fit():
    for limit in (15e9, 23e9, 40e9, 77e9):
        small = FOOTPRINT._replace(limit=limit)
        assert small.state + small.temporaries / small.pieces <= limit
        of_image = small.temporaries / small.batch_size
        assert small.state + small.fitting * of_image <= limit


@pytest.mark.slow
def test_the_compiled_step_of_a_program_tells_its_memory():
    config = tiny.config()
    program = build_program(config, DataShape(100, 3, (16, 16, 3)))
    batch = {
        name: jax.device_put(value, meshes.batch_sharding(program.mesh))
        for name, value in images(8).items()
    }
    found = program.compile_step(batch)
    state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(program.init(batch)))
    assert state <= found.state <= 3 * state  # on two devices that share a memory
    assert found.temporaries > 0 and found.fitting > 8


def images(count: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    return {
        "image": draws.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        "label": draws.integers(0, 3, count).astype(np.int32),
        "position": np.arange(count, dtype=np.int32),
    }


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "gn_ws"])
def test_remat_keeps_less_for_the_same_gradient(norm):
    """By the arrays between the passes: XLA:CPU itself does not keep them apart."""
    config = tiny.config(norm=norm)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, width=0.25, stem="small")
    )
    gradients, kept = [], []
    for remat in (False, True):
        settings = dataclasses.replace(config, remat=remat)
        parts = build_parts(settings, DataShape(100, 3, (16, 16, 3)), views=2)
        state = jax.jit(parts.init)(images(8))
        gradient = jax.jit(make_gradient(parts.network, settings, 1, False))
        gradients.append(gradient(state, images(8), jax.random.key(0)))
        kept.append(bytes_between_the_passes(parts.network, state))
    tiny.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    assert kept[1] < kept[0] / 3


def bytes_between_the_passes(network, state) -> int:
    def backward(params):
        def encode(params):
            views = jnp.zeros((16, 16, 16, 3))
            return network.online(params, state.online_stats, views, True)[0].prediction

        return jax.vjp(encode, params)[1]

    found = jax.tree.leaves(jax.eval_shape(backward, state.online_params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in found)


def test_arrays_that_no_device_count_divides_are_named(monkeypatch):
    monkeypatch.setattr(meshes, "SMALLEST_SHARDED", 8)
    shapes = {"even": (4, 3), "odd": (5, 3), "small": (3,)}
    mesh = make_mesh()
    state = {k: jax.ShapeDtypeStruct(v, np.float32) for k, v in shapes.items()}
    shardings = state_shardings(state, mesh, True)
    state = {k: state[k].update(sharding=shardings[k]) for k in state}
    assert left_whole(state, mesh) == {"odd": 60}
    assert bytes_of_a_device(state) == 4 * (12 / 2 + 15 + 3)
    said = what_stays_whole(state, mesh, over_data=True)
    assert "because 2 data devices divide none of their axes: odd" in said


@pytest.mark.parametrize("over_data", [False, True])
def test_what_model_devices_leave_whole_is_named_with_its_reason(
    monkeypatch, over_data
):
    monkeypatch.setattr(meshes, "SMALLEST_SHARDED", 8)
    mesh = make_mesh(2)
    state = {"odd": jax.ShapeDtypeStruct((5, 3), np.float32)}
    shardings = state_shardings(state, mesh, over_data)
    state = {"odd": state["odd"].update(sharding=shardings["odd"])}
    said = what_stays_whole(state, mesh, over_data)
    assert "because 2 model devices do not divide their last axis" in said
    assert ("leaves none to --shard-state" in said) == over_data


def test_both_axes_of_the_mesh_count_as_splitting_the_state():
    assert splits_state(tiny.config(shard_state=True))
    assert splits_state(tiny.config(run=RunConfig(model_devices=2)))
    assert not splits_state(tiny.config())
