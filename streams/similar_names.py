"""Finds the existing names that are similar to a mistyped one.

Owns how similar two names must be. It must not know what is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

ALIKE: Final = 0.7
"""A letter left out, put in or swapped; not another word."""

_MOST: Final = 3


def similar_names(name: str, known: Iterable[str]) -> list[str]:
    """Returns the names that are nearly the same, the most similar one first; few or none."""
    # Letters alone, so that neither case nor a dash for a dot makes a difference.
    by_letters: dict[str, list[str]] = {}
    for one in known:
        if one != name:
            by_letters.setdefault(_letters(one), []).append(one)
    found = difflib.get_close_matches(_letters(name), by_letters, _MOST, ALIKE)
    return [one for letters in found for one in by_letters[letters]][:_MOST]


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
