"""Images from disk, or generated, to batches of sharded arrays; no training in here.

`sources.open_source(config, split)` finds a data set, `pipeline.Batches` turns
(seed, step) into one batch of it, `augment.two_views` makes the two views.
"""
