"""Fast operations for CPUs. They compute the functions of `models.kernels`.

`choice` chooses the kernels of a program. `convolution` and `normalization` call C++
(`native`) with oneDNN. `products`, `moments` and `pooling` are plain JAX, in forms that
XLA runs quickly on CPUs. `allocator` keeps the memory of a step for the next step.
"""
