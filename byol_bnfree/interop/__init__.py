"""Other people's weights in, ours out: files of other frameworks.

`deepmind` reads the released BYOL checkpoints. `convert` knows the names of torchvision
and timm. `python -m byol_bnfree.export` writes, `load_encoder` reads.
"""
