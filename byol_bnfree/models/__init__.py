"""The networks, as Flax Linen modules. They know nothing of training."""
