"""The functions of plans, by name; jvm/…/Functions.java has the same in Java."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MOST_CHARACTERS: Final = 24

Text = str | None

PREDICATES: Final[dict[str, Callable[[Text, Text], bool]]] = {
    "present": lambda _k, v: v is not None,
    "even": lambda _k, v: v is not None and len(v) % 2 == 0,
    "has_a": lambda _k, v: v is not None and "a" in v,
    "not_k1": lambda k, _v: k != "k1",
    "nothing": lambda _k, _v: False,
}

VALUES: Final[dict[str, Callable[[Text, Text], Text]]] = {
    "bang": lambda _k, v: None if v is None else cut(f"{v}!"),
    "keyed": lambda k, v: cut(f"{shown(k)}={shown(v)}"),
    "null_if_b": lambda _k, v: None if v is None or v.startswith("b") else v,
    "first": lambda _k, v: v if not v else v[:1],
}

KEYS: Final[dict[str, Callable[[Text, Text], Text]]] = {
    "same": lambda k, _v: k,
    "initial": lambda _k, v: f"k{v[0]}" if v else None,
    "length": lambda _k, v: f"k{9 if v is None else len(v) % 3}",
    "value": lambda _k, v: v,
    "dropped": lambda k, _v: None if k is None or k == "k2" else k,
}


def spread(_key: Text, value: Text) -> list[tuple[str, str]]:
    """Makes up to three records, each with a key of its own."""
    return (
        [(f"k{value[at]}", value[at:]) for at in range(min(3, len(value or "")))] if value else []
    )


def letters(value: Text) -> list[str]:
    """Returns up to three characters."""
    return list((value or "")[:3])


def foreign(value: Text) -> Text:
    """Returns the foreign key of a value, None where it has none."""
    return None if not value or value[0] == "-" else f"k{value[0]}"


def joined(left: Text, right: Text) -> str:
    """Joins two values."""
    return cut(f"({shown(left)},{shown(right)})")


def joined_or_none(left: Text, right: Text) -> Text:
    """Joins two values, but deletes the row of some."""
    return None if left is not None and left.endswith("b") else joined(left, right)


def add(_key: Text, value: Text, aggregate: str) -> str:
    """Appends a value."""
    return last(f"{aggregate}{shown(value)}")


def take(_key: Text, value: Text, aggregate: str) -> str:
    """Marks that a value went."""
    return last(f"{aggregate}-{shown(value)}")


def add_or_drop(_key: Text, value: Text, aggregate: str) -> Text:
    """Appends a value, but deletes the row for some."""
    return (
        None if value is not None and value.startswith("c") else last(f"{aggregate}{shown(value)}")
    )


def reduce(left: Text, right: Text) -> str:
    """Reduces two values to one."""
    return last(f"{shown(left)}+{shown(right)}")


def unreduce(left: Text, right: Text) -> str:
    """Marks that a value went."""
    return last(f"{shown(left)}~{shown(right)}")


def merge_sessions(_key: Text, left: str, right: str) -> str:
    """Merges the aggregates of two sessions."""
    return reduce(left, right)


def shown(text: Text) -> str:
    """Returns a text as Java concatenates it."""
    return "null" if text is None else text


def cut(text: str) -> str:
    """Keeps the beginning."""
    return text[:MOST_CHARACTERS]


def last(text: str) -> str:
    """Keeps the end: the newest part of an aggregate."""
    return text[-MOST_CHARACTERS:]
