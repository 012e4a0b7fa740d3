"""Fast programs for CPUs: the operations of `models.kernels`, computed another way.

`choice` says which kernels a program gets. `convolution` and `normalization` call C++
(`native`), with oneDNN; `products`, `moments` and `pooling` are plain JAX in forms that
XLA:CPU is quick at. `allocator` keeps a step's memory for the next step.
"""
