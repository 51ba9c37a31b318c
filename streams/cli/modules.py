"""Modules named on the command line, found as `python -m` finds them.

Owns the place they are looked for: the working directory comes first. It must not know what
is wanted of a module.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from thalweg.streams.loading import only_loading


def look_here() -> None:
    """Puts the working directory first on the path, once."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def spec_of(name: str) -> ModuleSpec | None:
    """Returns where a module is, None where there is none."""
    look_here()
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


def load(name: str) -> ModuleType:
    """Imports a module, which starts no application; what it raises is not caught."""
    look_here()
    with only_loading(name):
        return importlib.import_module(name)
