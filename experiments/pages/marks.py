"""Generated parts of pages that people write. HTML comments mark their places."""

import re


def filled(text: str, name: str, body: str) -> str:
    """Return a page with `body` between its marks NAME and /NAME.

    A page without these marks stays as it is.
    """
    return _marks(name).sub(lambda found: f"{found[1]}{body}{found[2]}", text)


def between(text: str, name: str) -> str | None:
    """Return what stands between the marks of a page; None if it has none."""
    found = _marks(name).search(text)
    return found and found[0].removeprefix(found[1]).removesuffix(found[2])


def _marks(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
