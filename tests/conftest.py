"""Two CPU devices, and no silent rank promotion, for every test."""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "2"  # before jax starts
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
