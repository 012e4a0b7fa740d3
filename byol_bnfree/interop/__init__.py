"""Import and export of weights: files of other frameworks.

`deepmind` reads the released BYOL checkpoints. `names` maps the names of torchvision
and timm. `python -m byol_bnfree.export` writes files, and `load_encoder` reads them.
"""
