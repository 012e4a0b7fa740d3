"""Data: from images on disk, or generated ones, to sharded batches and their views.

`sources.open_source(config, split)` opens a data set. `pipeline.Batches` maps (seed,
step) to a batch. `augment.two_views` draws the two views.
"""
