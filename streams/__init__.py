"""The runtime: workers, tasks, transports, queries and the command line.

A script imports from `thalweg` and needs none of these modules by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Finds the public names here too, where scripts had them from before they were `thalweg`'s."""
    if name.startswith("_") or name not in import_module("thalweg").__all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module("thalweg"), name)
