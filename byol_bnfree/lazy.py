"""Imports names of a package on first use.

`--help` must not wait for JAX. Importing a module also imports its packages, so these
must not import JAX themselves.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def importer(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose name `n` is in module `home[n]`."""

    def get(name: str) -> Any:
        """Import the name, and keep it in the package."""
        if name not in home:
            # With the name and the module, Python suggests a similar name.
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}",
                name=name,
                obj=sys.modules[package],
            )
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
