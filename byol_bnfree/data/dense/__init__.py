"""Pictures with a target at every pixel, or with boxes: the data of dense tasks.

Every source gives the same `example.Example`, so a task reads all of them. `transform`
moves a picture and its targets together. `view` makes batches of one size.
"""
