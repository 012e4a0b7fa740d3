"""Pure functions over trees (optim, ema, state, mesh, step) and what runs them."""
