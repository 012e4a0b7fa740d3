"""Training. Pure functions on trees: optim, ema, state, mesh, step. The other modules
run them and write files."""
