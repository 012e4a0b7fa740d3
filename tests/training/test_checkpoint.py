"""A checkpoint comes back bit for bit, or is refused by name."""

import contextlib
import logging
import resource
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from byol_bnfree.errors import InputError
from byol_bnfree.training import restore as restoring
from byol_bnfree.training.checkpoint import Checkpoints
from byol_bnfree.training.items import split
from byol_bnfree.training.manifest import MANIFEST, verify_manifest, write_manifest
from byol_bnfree.training.restore import load_items, load_newest


def sharding(devices, *axes):
    mesh = jax.make_mesh(
        (devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return NamedSharding(mesh, PartitionSpec(*axes))


def make_state(seed, width=4, devices=1):
    """Every kind of leaf and of empty subtree that a training state has."""
    params = {"kernel": jax.random.normal(jax.random.key(seed), (8, width))}
    state = {
        "step": jnp.int32(seed),
        "online": params,
        "target": jax.tree.map(lambda x: x / 2, params),
        "half": jnp.full((3,), 1 / 3 + seed, jnp.bfloat16),
        "stats": {},
        "opt": (optax.EmptyState(), optax.TraceState({"kernel": jnp.ones((2,))})),
    }
    return jax.device_put(state, sharding(devices))


def abstract(state, shards=None):
    def describe(leaf):
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=shards or leaf.sharding
        )

    return jax.tree.map(describe, state)


def assert_bitwise(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@contextlib.contextmanager
def checkpoints(workdir, keep=3, warn=None):
    made = Checkpoints(workdir, keep, warn or pytest.fail)
    try:
        yield made
    finally:
        made.close()


def save_all(workdir, *steps, keep=3):
    with checkpoints(workdir, keep) as saved:
        for step in steps:
            saved.save(step, make_state(step))


def restore(workdir, warn=None):
    with checkpoints(workdir, warn=warn) as saved:
        return saved.restore(abstract(make_state(0)))


def files_of(workdir, step):
    folder = workdir / "checkpoints" / str(step)
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_restored_state_is_bitwise_the_saved_one(tmp_path):
    save_all(tmp_path, 5)
    state, step = restore(tmp_path)
    assert step == 5
    assert_bitwise(state, make_state(5))


def test_nothing_saved_restores_nothing(tmp_path):
    assert restore(tmp_path) is None


def test_checkpoint_outlives_donation_of_the_saved_state(tmp_path):
    state = make_state(1, width=50_000)
    expected = jax.tree.map(np.array, state)
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    with checkpoints(tmp_path) as saved:
        saved.save(1, state)
        jax.block_until_ready(overwrite(state))
        found, _ = saved.restore(abstract(make_state(1, width=50_000)))
    assert_bitwise(found, expected)


@pytest.mark.parametrize("axes", [(), ("data",)], ids=["replicated", "sharded"])
def test_one_device_saves_and_two_restore(tmp_path, axes):
    save_all(tmp_path, 1)
    shapes = abstract(make_state(0), sharding(2))
    kernel = shapes["online"]["kernel"]
    shapes["online"]["kernel"] = kernel.update(sharding=sharding(2, *axes))
    with checkpoints(tmp_path) as saved:
        state, _ = saved.restore(shapes)
    assert state["online"]["kernel"].sharding.spec == PartitionSpec(*axes)
    assert_bitwise(state, make_state(1))


def test_two_devices_save_and_one_restores(tmp_path):
    with checkpoints(tmp_path) as saved:
        saved.save(1, make_state(1, devices=2))
    state, _ = restore(tmp_path)
    assert_bitwise(state, make_state(1))


def test_leaves_that_shared_a_buffer_can_be_donated_after_restore(tmp_path):
    leaf = jax.device_put(jnp.ones((64, 64)), sharding(2))
    shared = {"online": leaf, "target": leaf}
    with checkpoints(tmp_path) as saved:
        saved.save(1, shared)
        state, _ = saved.restore(abstract(shared))
    new = jax.jit(lambda s: {k: v + 1 for k, v in s.items()}, donate_argnums=0)(state)
    for array in new.values():
        assert all((np.asarray(s.data) == 2).all() for s in array.addressable_shards)


def test_newest_k_are_kept(tmp_path):
    save_all(tmp_path, 1, 2, 3, 10, keep=2)
    with checkpoints(tmp_path) as saved:
        assert saved.steps() == [3, 10]


def test_older_ones_are_deleted_only_after_the_newer_is_committed(
    tmp_path, monkeypatch
):
    with checkpoints(tmp_path, keep=1) as saved:
        saved.save(1, make_state(1))
        saved.wait()

        def full(folder):
            raise OSError("no space")

        monkeypatch.setattr("byol_bnfree.training.checkpoint.write_manifest", full)
        saved.save(2, make_state(2))
        with pytest.raises(OSError, match="step 2 could not be saved.*no space"):
            saved.wait()
    assert not verify_manifest(tmp_path / "checkpoints" / "1")


def test_damaged_checkpoints_do_not_count_as_kept(tmp_path):
    save_all(tmp_path, 1, 2, 3)
    files_of(tmp_path, 2)[-1].write_bytes(b"")
    save_all(tmp_path, 4, keep=3)
    with checkpoints(tmp_path) as saved:
        assert saved.steps() == [1, 3, 4]


def test_damage_to_a_checkpoint_of_the_same_part_of_a_run_is_seen(tmp_path):
    with checkpoints(tmp_path, keep=2) as saved:
        for step in (1, 2):
            saved.save(step, make_state(step))
        saved.wait()
        files_of(tmp_path, 2)[-1].write_bytes(b"")
        saved.save(3, make_state(3))
        saved.wait()
        assert saved.steps() == [1, 3]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, empty, remove])
def test_damage_to_any_file_is_named_and_the_older_one_used(tmp_path, damage):
    save_all(tmp_path, 1, 2)
    files = [p for p in files_of(tmp_path, 2) if p.stat().st_size or damage is remove]
    assert MANIFEST in {path.name for path in files} and len(files) > 5
    for path in files:
        content, said = path.read_bytes(), []
        damage(path)
        state, step = restore(tmp_path, said.append)
        assert step == 1 and len(said) == 1
        assert f"{path.parents[0]}".startswith(said[0].split()[1]), said
        assert path.name in said[0]
        assert_bitwise(state, make_state(1))
        path.write_bytes(content)
    assert restore(tmp_path)[1] == 2


def test_any_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    save_all(tmp_path, 1)
    folder = tmp_path / "checkpoints" / "1"
    content = (folder / MANIFEST).read_bytes()
    for index in range(len(content)):
        damaged = bytearray(content)
        damaged[index] ^= 1 << index % 8
        (folder / MANIFEST).write_bytes(damaged)
        assert MANIFEST in verify_manifest(folder)[0], damaged[index - 9 : index + 9]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip, "a/b does not match its checksum"),
        (cut, "a/b has 3 bytes instead of 5"),
        (empty, "a/b has 0 bytes instead of 5"),
        (remove, "a/b is missing"),
    ],
)
def test_damage_is_described(tmp_path, damage, problem):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12345")
    write_manifest(tmp_path)
    assert verify_manifest(tmp_path) == []
    damage(tmp_path / "a" / "b")
    assert verify_manifest(tmp_path) == [problem]


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
    save_all(tmp_path, 1, 2)
    for step in (1, 2):
        flip(files_of(tmp_path, step)[0])
    with pytest.raises(InputError, match="Every checkpoint .* is damaged"):
        restore(tmp_path, str)


def test_checkpoint_without_manifest_is_not_committed_and_is_replaced(tmp_path):
    save_all(tmp_path, 1, 2)
    (tmp_path / "checkpoints" / "2" / MANIFEST).unlink()
    with checkpoints(tmp_path, warn=str) as saved:
        assert saved.steps() == [1]
        assert saved.restore(abstract(make_state(0)))[1] == 1
        saved.save(2, make_state(7))
    assert_bitwise(restore(tmp_path)[0], make_state(7))


def test_checkpoint_committed_without_all_its_files_is_named(tmp_path):
    save_all(tmp_path, 1)
    folder = tmp_path / "checkpoints" / "1"
    shutil.rmtree(folder / "state" / "d")  # as by an rm -r while it was written
    write_manifest(folder)
    with pytest.raises(InputError, match=f"{folder} is undamaged but .*delete"):
        restore(tmp_path)


def test_deleted_folder_is_made_again_and_that_is_said(tmp_path):
    said = []
    with checkpoints(tmp_path, warn=said.append) as saved:
        saved.save(1, make_state(1))
        saved.wait()
        shutil.rmtree(tmp_path / "checkpoints")
        saved.save(2, make_state(2))
        saved.wait()
        assert saved.steps() == [2]
    assert len(said) == 1 and "deleted while the run" in said[0]


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
    save_all(tmp_path, 1)
    leftover = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "1", leftover)
    assert restore(tmp_path)[1] == 1
    assert not leftover.exists()


def test_saving_the_restored_step_again_does_not_touch_it(tmp_path):
    save_all(tmp_path, 1)
    with checkpoints(tmp_path) as saved:
        state, step = saved.restore(abstract(make_state(0)))
        before = [(p, p.stat().st_mtime_ns) for p in files_of(tmp_path, 1)]
        saved.save(step, state)
    assert before == [(p, p.stat().st_mtime_ns) for p in files_of(tmp_path, 1)]


def test_checkpoints_from_before_a_resume_do_not_outrank_new_ones(tmp_path):
    save_all(tmp_path, 1, 20)
    flip(files_of(tmp_path, 20)[0])
    with checkpoints(tmp_path, warn=str) as saved:
        saved.restore(abstract(make_state(0)))
        saved.save(15, make_state(15))
        saved.wait()
        assert saved.steps() == [1, 15]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"online": {"kernel": jnp.ones((8, 5))}},
            r"online.kernel is float32\[8,4\] in .* and float32\[8,5\] in this run",
        ),
        ({"half": jnp.ones((3,))}, r"half is bfloat16\[3\] in .* and float32\[3\]"),
        ({"extra": jnp.ones((2,))}, r"extra is absent in .* and float32\[2\]"),
        ({"target": {}}, r"target.kernel is float32\[8,4\] in .* and absent"),
    ],
)
def test_another_architecture_is_refused_naming_the_leaf(tmp_path, change, difference):
    save_all(tmp_path, 1)
    other = jax.device_put(make_state(0) | change, sharding(1))
    with checkpoints(tmp_path) as saved, pytest.raises(InputError, match=difference):
        saved.restore(abstract(other))


def test_failed_background_save_is_raised_at_the_next_call(tmp_path):
    save_all(tmp_path, 1)
    saved = Checkpoints(tmp_path, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # like a full disk
    try:
        saved.save(2, make_state(2, width=1000))
        with pytest.raises(OSError, match="step 2 could not be saved"):
            saved.save(3, make_state(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        saved.close()
    assert restore(tmp_path)[1] == 1


def test_failed_step_can_be_saved_again(tmp_path, monkeypatch):
    with checkpoints(tmp_path) as saved, monkeypatch.context() as patch:
        patch.setattr("byol_bnfree.training.checkpoint.write_manifest", None)
        saved.save(1, make_state(1))
        with pytest.raises(OSError):
            saved.wait()
        patch.undo()
        saved.save(1, make_state(1))
        saved.wait()
        assert saved.steps() == [1]


def test_reading_a_run_changes_nothing_in_it(tmp_path):
    save_all(tmp_path, 1)
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir()  # being saved now
    before = sorted(tmp_path.rglob("*"))
    state, step = load_newest(tmp_path, abstract(make_state(0)))
    assert step == 1 and sorted(tmp_path.rglob("*")) == before
    assert_bitwise(state, make_state(1))


@pytest.mark.parametrize("moment", ["verify_manifest", "_check_shapes", "split"])
def test_a_checkpoint_that_its_run_deletes_meanwhile_is_not_missed(
    tmp_path, monkeypatch, moment
):
    """With keep=1 a save deletes the checkpoint that is being read."""
    save_all(tmp_path, 1)
    original, module = getattr(restoring, moment), "byol_bnfree.training.restore"

    def late(*given):
        monkeypatch.undo()
        save_all(tmp_path, 2, keep=1)
        return original(*given)

    monkeypatch.setattr(f"{module}.{moment}", late)
    tree = abstract(make_state(0))
    if moment == "split":
        found, step = load_newest(tmp_path, tree, pytest.fail)
        assert_bitwise(found, make_state(2))
    else:
        whole = split(tree)
        found, step = load_items(tmp_path, whole, pytest.fail)
        assert found.keys() == whole.keys()
    assert step == 2


def test_checkpoints_that_are_deleted_again_and_again_are_one_sentence(
    tmp_path, monkeypatch
):
    save_all(tmp_path, 1)
    steps = iter(range(2, 99))

    def load(*given):
        save_all(tmp_path, next(steps), keep=1)

    monkeypatch.setattr(restoring, "load", load)
    with pytest.raises(InputError, match="5 checkpoints .* were deleted .*run.keep"):
        load_newest(tmp_path, abstract(make_state(0)), pytest.fail)


@pytest.mark.parametrize("folder", ["", "checkpoints"])
def test_folder_without_a_checkpoint_cannot_be_read(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_newest(tmp_path, abstract(make_state(0)))


def test_a_failed_save_leaves_its_caller_s_process_as_it_was(tmp_path, monkeypatch):
    before = (sys.excepthook, list(logging.getLogger("absl").filters))
    monkeypatch.setattr("byol_bnfree.training.checkpoint.write_manifest", None)
    saved = Checkpoints(tmp_path, 1)
    saved.save(1, make_state(1))
    with pytest.raises(OSError):
        saved.close()
    assert (sys.excepthook, logging.getLogger("absl").filters) == before


def test_a_save_does_not_read_older_checkpoints_again(tmp_path, monkeypatch):
    read, module = [], "byol_bnfree.training.checkpoint"
    monkeypatch.setattr(
        f"{module}.verify_manifest",
        lambda folder: read.append(folder.name) or verify_manifest(folder),
    )
    save_all(tmp_path, 1, 2, 3)
    assert not read  # they were written here
    with checkpoints(tmp_path, 3) as saved:
        saved.save(4, make_state(4))
        saved.save(5, make_state(5))
        saved.wait()
        assert sorted(read) == ["2", "3"]  # once, in this process
        files_of(tmp_path, 4)[0].write_bytes(b"")
        saved.save(6, make_state(6))
        saved.wait()
        assert read[2:] == ["4"] and 4 not in saved.steps()  # it was changed
