"""Questions as they come over HTTP: which parameters there are, and what they ask.

Owns the names of parameters, their forms and their limits. A parameter that is not known, or
does not go with the others, is refused: a question that is read differently than it was meant
has a wrong answer. It must not know who answers.

    /stores/S/keys/KEY, /stores/S?key=KEY    key
    /stores/S                                from to prefix reverse limit cursor
    /stores/S/keys/KEY/windows               from to reverse limit cursor
    /stores/S/windows                        key key_from key_to from to reverse limit cursor
    /stores/S/count
    each                                     scope=all|owner|local  partition=0,3
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.windowed import FOREVER_MS
from thalweg.streams.queries.answers import Part, RefusedError, bad
from thalweg.streams.queries.keys import parse_key, parse_moment_ms, parse_prefix
from thalweg.streams.queries.rows import KeyRange, StoreRows, WindowRange

LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 10_000
"""Most rows of a page: bounds the memory of an answer; a cursor leads on."""

Parameters: TypeAlias = Sequence[tuple[str, str]]
"""Names and values of a query string, in order; names may repeat."""

T = TypeVar("T")


_STEPS: Final = ("", ".", "..")
"""Segments of a path that clients and proxies leave out or follow."""


def key_target(store: str, key: str, *, is_windows: bool = False) -> tuple[str, Parameters]:
    """Returns the path and the parameters by which a key is asked for.

    Args:
        store: the store.
        key: the key as text.
        is_windows: ask for its windows.
    """
    path, last = f"/stores/{quote(store, safe='')}", "/windows" if is_windows else ""
    if key in _STEPS:
        return path + last, [("key", key)]
    return f"{path}/keys/{quote(key, safe='')}{last}", []


class Scope(StrEnum):
    """Whom to ask."""

    ALL = "all"
    """Every instance that may have rows: a key's owner first, and, if it has no such row, the
    others, for who wrote the topic may have partitioned it otherwise."""
    OWNER = "owner"
    """Of a key only its owner, by the default partitioner, as Kafka Streams does."""
    LOCAL = "local"
    """This instance only."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a store.

    Attributes:
        builder: the store's description.
        read: asks some partitions of this instance.
        scope: whom to ask.
        partitions: ask only these; None for all.
        key: the key that is asked for, None where it is not one.
        limit: the most rows of the answer.
        is_reverse: rows come highest first.
        path: how it came, for the other instances that are asked.
        parameters: likewise, without scope and partition.
    """

    builder: StoreBuilder
    read: Callable[[StoreRows], Part]
    scope: Scope
    partitions: tuple[int, ...] | None
    path: str
    parameters: Parameters
    key: Any = None
    limit: int = 1
    is_reverse: bool = False


class _Given:
    """The parameters of one question, each taken once."""

    def __init__(self, parameters: Parameters, known: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        partitions: list[str] = []
        for name, value in parameters:
            if name not in known and name not in ("scope", "partition"):
                accepted = ", ".join((*known, "scope", "partition"))
                raise bad(
                    "unknown-parameter",
                    f"{name!r} is no parameter of this question; it takes {accepted}",
                    parameter=name,
                )
            if name == "partition":
                partitions += value.split(",")
            elif name in self._values:
                raise bad("repeated-parameter", f"{name!r} is given twice", parameter=name)
            else:
                self._values[name] = value
        self.partitions = _partitions(partitions) if partitions else None

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        return self._values.get(name)

    def read(self, name: str, code: str, read: Callable[[str], T], default: T) -> T:
        """Reads a parameter; a ValueError says what it takes."""
        text = self._values.get(name)
        if text is None:
            return default
        try:
            return read(text)
        except ValueError as error:
            raise bad(code, f"{name}: {error}", parameter=name) from error

    @property
    def scope(self) -> Scope:
        return self.read("scope", "bad-scope", _scope, Scope.ALL)

    @property
    def limit(self) -> int:
        return self.read("limit", "bad-number", _limit, LIMIT_DEFAULT)

    @property
    def is_reverse(self) -> bool:
        return self.read("reverse", "bad-flag", _flag, default=False)

    @property
    def cursor(self) -> bytes | None:
        return self.read("cursor", "bad-cursor", _cursor, None)

    def refuse_together(self, names: Collection[str]) -> None:
        given = [name for name in names if name in self._values]
        if len(given) > 1:
            raise bad("contradiction", f"{' and '.join(given)} do not go together: leave one out")


def key_question(
    builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
) -> Question:
    """Returns the question for one key, in the path or the parameters.

    Raises:
        RefusedError: it cannot be understood, or the store has no such rows.
    """
    _refuse_kind(
        builder,
        is_window=False,
        hint="ask /stores/{store}/keys/{key}/windows for the windows of a key",
    )
    given = _Given(parameters, () if key is not None else ("key",))
    asked = _key(builder, "key", given.text("key") if key is None else key)
    return Question(
        builder,
        lambda rows: rows.get(asked),
        given.scope,
        given.partitions,
        path,
        _forwarded(parameters),
        key=asked,
    )


def scan_question(builder: StoreBuilder, path: str, parameters: Parameters) -> Question:
    """Returns the question for the rows of a key-value store.

    Raises:
        RefusedError: it cannot be understood, or the store has no such rows.
    """
    _refuse_kind(builder, is_window=False, hint="ask /stores/{store}/windows for its rows")
    given = _Given(parameters, ("from", "to", "prefix", "reverse", "limit", "cursor"))
    given.refuse_together(("prefix", "from"))
    given.refuse_together(("prefix", "to"))
    if given.is_reverse:
        given.refuse_together(("prefix", "reverse"))
    key_serde: Any = builder.key_serde
    asked = KeyRange(
        lower=_key(builder, "from", given.text("from")),
        upper=_key(builder, "to", given.text("to")),
        prefix=given.read("prefix", "bad-key", lambda text: parse_prefix(key_serde, text), None),
        is_reverse=given.is_reverse,
        after=given.cursor,
        limit=given.limit,
    )
    return Question(
        builder,
        lambda rows: rows.scan(asked),
        given.scope,
        given.partitions,
        path,
        _forwarded(parameters),
        limit=asked.limit,
        is_reverse=asked.is_reverse,
    )


def window_question(
    builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
) -> Question:
    """Returns the question for windows, of one key or many.

    Raises:
        RefusedError: it cannot be understood, or the store has no windows.
    """
    hint = "ask /stores/{store}/keys/{key} for a key, also one called windows, or /stores/{store}"
    _refuse_kind(builder, is_window=True, hint=hint)
    names = ("from", "to", "reverse", "limit", "cursor")
    given = _Given(parameters, names if key is not None else ("key", "key_from", "key_to", *names))
    given.refuse_together(("key", "key_from"))
    given.refuse_together(("key", "key_to"))
    asked = WindowRange(
        key=_key(builder, "key", given.text("key") if key is None else key),
        lower=_key(builder, "key_from", given.text("key_from")),
        upper=_key(builder, "key_to", given.text("key_to")),
        from_ms=given.read("from", "bad-moment", parse_moment_ms, 0),
        to_ms=given.read("to", "bad-moment", parse_moment_ms, FOREVER_MS),
        is_reverse=given.is_reverse,
        after=given.cursor,
        limit=given.limit,
    )
    return Question(
        builder,
        lambda rows: rows.windows(asked),
        given.scope,
        given.partitions,
        path,
        _forwarded(parameters),
        key=asked.key,
        limit=asked.limit,
        is_reverse=asked.is_reverse,
    )


def count_question(builder: StoreBuilder, path: str, parameters: Parameters) -> Question:
    """Returns the question for the number of rows.

    Raises:
        RefusedError: it cannot be understood, or the store cannot tell.
    """
    _refuse_kind(builder, is_window=False, hint="window stores do not count their rows")
    given = _Given(parameters, ())
    return Question(
        builder,
        StoreRows.count,
        given.scope,
        given.partitions,
        path,
        _forwarded(parameters),
    )


def cursor_text(order: bytes) -> str:
    """Returns a cursor as it goes into an answer."""
    return base64.urlsafe_b64encode(order).decode().rstrip("=")


def _refuse_kind(builder: StoreBuilder, *, is_window: bool, hint: str) -> None:
    if builder.is_window is not is_window:
        raise RefusedError(
            HTTPStatus.CONFLICT,
            "wrong-kind",
            f"store {builder.name!r} is a {builder.kind} store; "
            + hint.format(store=builder.name, key="{key}"),
            store=builder.name,
            kind=builder.kind,
        )


def _forwarded(parameters: Parameters) -> Parameters:
    return [(name, value) for name, value in parameters if name not in ("scope", "partition")]


# -- values --------------------------------------------------------------------------------


def _key(builder: StoreBuilder, name: str, text: str | None) -> Any:
    if text is None:
        return None
    key_serde: Any = builder.key_serde
    try:
        return parse_key(key_serde, text)
    except ValueError as error:
        raise bad("bad-key", f"{name}: {error}", parameter=name, serde=key_serde.name) from error


def _partitions(texts: Sequence[str]) -> tuple[int, ...]:
    if not all(text.isascii() and text.isdecimal() for text in texts):
        message = f"partition: {','.join(texts)!r} is no list of partitions such as 0,3"
        raise bad("bad-number", message, parameter="partition")
    return tuple(sorted(set(map(int, texts))))


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        message = f"{text!r} is none of {', '.join(Scope)}"
        raise ValueError(message) from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= LIMIT_MAX):
        message = f"{text!r} is no number from 1 to {LIMIT_MAX}; a cursor leads on to more rows"
        raise ValueError(message)
    return int(text)


_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("", "true", "1"), True),
    **dict.fromkeys(("false", "0"), False),
}


def _flag(text: str) -> bool:
    if text not in _FLAGS:
        message = f"{text!r} is neither true nor false"
        raise ValueError(message)
    return _FLAGS[text]


def _cursor(text: str) -> bytes:
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"{text!r} is no cursor; take it from the answer before, or leave it out"
        raise ValueError(message) from error
