"""The kinds of stores that can be asked, by name.

Owns the list. A store of another kind, such as a buffer, cannot be queried. It must not know what
kinds answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from thalweg.stores.builders import StoreBuilder
from thalweg.streams.queries.composite import Composite, Unwrap
from thalweg.streams.queries.kinds.key_value import (
    HeadersKeyValueKind,
    KeyValueKind,
    TimestampedKeyValueKind,
)
from thalweg.streams.queries.kinds.kind import Faces, RowsAsked, StoreKind, Target
from thalweg.streams.queries.kinds.session import HeadersSessionKind, SessionKind
from thalweg.streams.queries.kinds.versioned import VersionedKind
from thalweg.streams.queries.kinds.window import HeadersWindowKind, WindowKind
from thalweg.streams.queries.state_queries import Query


class NotAsked(StoreKind):
    """A kind of stores that answers nothing."""

    names = ()
    family = ""
    noun = "row"

    def __init__(self) -> None:
        self.forms = {}

    def face(self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap) -> Composite[Any]:
        """Refuses to be read.

        Raises:
            TypeError: always.
        """
        message = f"store {builder.name!r} is a {builder.kind} store, which cannot be asked"
        raise TypeError(message)

    def target(self, asked: RowsAsked) -> Target:
        """Returns the question for all rows, which will be refused."""
        return Target("", None, ())

    def hint(self, form: str) -> str:
        """Says that there is nothing else to ask."""
        return "it cannot be asked"

    def parts(self, row: Mapping[str, Any]) -> tuple[object, tuple[()]]:
        """Returns the key of a row."""
        return row["key"], ()


_KINDS: Final[dict[str, StoreKind]] = {}
_NOT_ASKED: Final = NotAsked()


def add_kind(kind: StoreKind) -> None:
    """Lets stores of a kind be asked. Call it where the kind is defined, for one of your own."""
    _KINDS.update(dict.fromkeys(kind.names, kind))


def kind_named(name: str) -> StoreKind:
    """Returns how stores are asked whose `StoreBuilder.kind` is `name`."""
    return _KINDS.get(name, _NOT_ASKED)


def kind_of(builder: StoreBuilder) -> StoreKind:
    """Returns how a store is asked."""
    return kind_named(builder.kind)


def family_named(name: str) -> StoreKind:
    """Returns a kind by its `family`.

    Raises:
        ValueError: there is none; names those there are.
    """
    for kind in _KINDS.values():
        if kind.family == name:
            return kind
    known = ", ".join(dict.fromkeys(repr(kind.family) for kind in _KINDS.values()))
    message = f"there is no kind of stores {name!r}; kinds that can be asked: {known}"
    raise ValueError(message)


def known_queries() -> list[type[Query[Any]]]:
    """Returns the queries of state that stores of some kind answer."""
    return list(dict.fromkeys(query for kind in _KINDS.values() for query in kind.queries))


def may_follow_key(word: str) -> bool:
    """Tells whether a word behind a key is one of a path, of whatever kind."""
    return any(word in kind.forms_of_key for kind in _KINDS.values())


for _kind in (
    KeyValueKind(),
    TimestampedKeyValueKind(),
    HeadersKeyValueKind(),
    WindowKind(),
    HeadersWindowKind(),
    SessionKind(),
    HeadersSessionKind(),
    VersionedKind(),
):
    add_kind(_kind)
