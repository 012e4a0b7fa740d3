"""The machine of a run: memory, cores, launchers, signals, caches, the start of JAX."""
