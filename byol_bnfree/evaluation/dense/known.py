"""What the windows of a split know: without a target no figure means anything."""

import numpy as np

from byol_bnfree.data.dense.example import PADDING, Example
from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.errors import InputError

WORDS = {"mask": "pixel with a class", "depth": "pixel of known depth"}
WORDS |= {"boxes": "object that counts"}


def check_known(target: str, view: DenseView, pictures: str) -> None:
    """Check that a central window of `view` knows the target: mask, depth or boxes.

    Windows are read until one does, which is the first one as a rule. `pictures` says
    in the error which pictures they are.

    Raises:
      InputError: if none does.
    """
    for row in range(len(view)):
        if _knows(target, view.examples(np.array([row])), view.num_classes):
            return
    height, width = view.windows.size
    raise InputError(
        f"the {len(view):,} {pictures} of {view.name} have no {WORDS[target]} in their "
        f"central windows of {height} x {width} pixels; give larger windows, or other "
        f"pictures."
    )


def _knows(target: str, windows: Example, classes: int) -> bool:
    if target == "mask":
        return bool((windows["mask"] < classes).any())
    if target == "depth":
        return bool((windows["depth"] > 0).any())
    return bool(((windows["box_class"] != PADDING) & ~windows["difficult"]).any())
