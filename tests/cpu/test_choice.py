"""Kernels in C++ give what XLA gives, in whole networks, and stand back elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from byol_bnfree.cpu import native
from byol_bnfree.cpu.choice import XLA_ON_CPU, choose_kernels
from byol_bnfree.errors import InputError
from byol_bnfree.models.encoders import create_encoder
from byol_bnfree.models.kernels import XLA
from byol_bnfree.training import program
from byol_bnfree.training.parts import DataShape

problem = native.register()
needs_onednn = pytest.mark.skipif(problem is not None, reason=str(problem))


@needs_onednn
@pytest.mark.slow
@pytest.mark.parametrize("norm", ["gn_ws", "bn", "ln"])
def test_an_encoder_gives_the_same_features_and_gradients(norm):
    # With seed 0 one of bn's outputs is so near 0 that one program's ReLU opens.
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    loss_and_gradient = []
    for kernels in (XLA, choose_kernels("onednn", num_devices=1)):
        encoder = create_encoder("resnet14", norm=norm, stem="small", kernels=kernels)
        variables = encoder.init(jax.random.key(0), images, False)

        def loss(params, encoder=encoder, variables=variables):
            features, _ = encoder.apply(
                variables | {"params": params}, images, True, mutable=["batch_stats"]
            )
            return jnp.sin(features).sum()

        loss_and_gradient.append(jax.value_and_grad(loss)(variables["params"]))
    leaves = (jax.tree.leaves(result) for result in loss_and_gradient)
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max() + 1e-7)


@pytest.mark.parametrize("wanted", ["auto", "xla"])
def test_accelerators_keep_xlas_operations(monkeypatch, wanted):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert choose_kernels(wanted, num_devices=1) == XLA
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    on_gpu = choose_kernels(wanted, num_devices=2)
    assert on_gpu._replace(max_pool=XLA.max_pool) == XLA


def test_more_than_one_device_is_xlas():
    assert choose_kernels("auto", num_devices=2) == XLA_ON_CPU
    assert choose_kernels("xla", num_devices=1) == XLA_ON_CPU
    with pytest.raises(InputError, match="has 2 devices of type cpu"):
        choose_kernels("onednn", num_devices=2)


def test_bfloat16_is_xlas():
    assert choose_kernels("auto", 1, "bfloat16") == XLA_ON_CPU
    with pytest.raises(InputError, match="layers of this run are bfloat16; it comp"):
        choose_kernels("onednn", 1, "bfloat16")


@pytest.mark.parametrize("wanted", ["auto", "bfloat16"])
def test_a_run_is_built_with_the_kernels_of_its_dtype(monkeypatch, wanted):
    def choose(*given):
        raise LookupError(*given)  # nothing is built

    monkeypatch.setattr(program, "choose_kernels", choose)
    data = DataShape(80, 3, (8, 8, 3))
    with pytest.raises(LookupError) as chosen:
        program.build_program(tiny.config(compute_dtype=wanted), data)
    expected = ("auto", 2, "float32" if wanted == "auto" else wanted)
    assert chosen.value.args == expected


@needs_onednn
def test_without_a_compiler_the_sentence_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler" in native.register.__wrapped__()


@needs_onednn
def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho broken flag >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert "could not be compiled (broken flag)" in native.register.__wrapped__()
