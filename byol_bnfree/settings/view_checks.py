"""Checks that the views of an image fit the other settings and the input."""

from typing import Any

from byol_bnfree.errors import InputError

MOST_VIEWS = 64  # each view is a separate pass in the compiled program


def validate_views(config: Any) -> None:
    """Raise `InputError` if the settings of the views are impossible."""
    views = config.views
    if not 2 <= views.count <= MOST_VIEWS:
        raise InputError(
            f"--views.count is {views.count}; it must be from 2, which is BYOL, to "
            f"{MOST_VIEWS}."
        )
    if not 0 <= views.small <= MOST_VIEWS:
        raise InputError(
            f"--views.small is {views.small}; it must be from 0 to {MOST_VIEWS}."
        )
    if views.small_size is not None and not views.small:
        raise InputError(
            f"--views.small-size {views.small_size} needs small views; add "
            f"--views.small, or remove it."
        )
    if views.small_size is not None and views.small_size < 1:
        raise InputError(
            f"--views.small-size is {views.small_size}; it must be 1 pixel or more."
        )
    low, high = views.small_area
    if not 0 < low <= high <= 1:
        raise InputError(
            f"--views.small-area is {low:g} {high:g}; give LOW HIGH, shares of the "
            f"picture's area with 0 < LOW <= HIGH <= 1."
        )
    more = views.count != 2 or views.small
    what = "has a loss of two views" if more else "needs both views in one pass"
    given = "--views.count and --views.small" if more else "--views.accumulate"
    if not views.plain and config.objective != "byol":
        raise InputError(
            f"--objective {config.objective} {what}; remove {given}, or use "
            f"--objective byol."
        )
    if not views.plain and config.byol.predictor == "closed_form":
        raise InputError(
            f"--byol.predictor closed_form {what}; remove {given}, or use "
            f"--byol.predictor network."
        )


def check_small_size(size: int | None, height: int, width: int) -> None:
    """Raise `InputError` if small views of `size` pixels exceed the input's sides."""
    if size is not None and size > min(height, width):
        raise InputError(
            f"--views.small-size is {size}, but the input has {height}x{width} pixels; "
            f"a small view is no larger than a large one, so give at most "
            f"{min(height, width)}."
        )
