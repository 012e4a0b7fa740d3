"""A run from its settings to its last figures: `train(config)`."""
