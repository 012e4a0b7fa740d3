"""Flax Linen networks: they know nothing of training."""
