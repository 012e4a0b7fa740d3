"""What the windows of a split know: without a target no figure means anything."""

import numpy as np

from byol_bnfree.data.dense.example import KNOWN, knows
from byol_bnfree.data.dense.view import DenseView
from byol_bnfree.errors import InputError


def check_known(target: str, view: DenseView, pictures: str) -> None:
    """Check that a central window of `view` knows the target: mask, depth or boxes.

    Windows are read until one does, which is the first one as a rule. `pictures` says
    in the error which pictures they are.

    Raises:
      InputError: if none does.
    """
    for row in range(len(view)):
        if knows(target, view.examples(np.array([row])), view.num_classes):
            return
    height, width = view.windows.size
    raise InputError(
        f"the {len(view):,} {pictures} of {view.name} have no {KNOWN[target]} in their "
        f"central windows of {height} x {width} pixels; give larger windows, or other "
        f"pictures."
    )
