"""Requests over HTTP: their parameters, which have the same form everywhere.

Owns the forms and limits of parameters. A parameter that is unknown or contradicts others is
refused, because a misunderstood request has a wrong answer. The kind of a store decides which
requests it answers, with which parameters (`queries.kinds`). Each also takes scope=all|owner|local
and partition=0,3. It must not know who answers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

from thalweg.stores.builders import StoreBuilder
from thalweg.streams.queries.answers import Part, RefusedError, bad
from thalweg.streams.queries.keys import parse_key, parse_moment_ms
from thalweg.streams.queries.rows import Paging, StoreRows

LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 10_000
"""Most rows of a page: bounds the memory of an answer; a cursor leads on."""

ABSENT: Final = "key-not-found"
"""The code of a refusal where there is no such row."""

Parameters: TypeAlias = Sequence[tuple[str, str]]
"""Names and values of a query string, in order; names may repeat."""

T = TypeVar("T")
U = TypeVar("U")


_STEPS: Final = ("", ".", "..")
"""Segments of a path that clients and proxies leave out or follow."""


def store_path(store: str, form: str = "") -> str:
    """Returns the path of a question for many rows.

    Args:
        store: the store.
        form: the last word of the path.
    """
    return f"/stores/{quote(store, safe='')}" + (f"/{form}" if form else "")


def key_target(store: str, key: str, form: str = "") -> tuple[str, Parameters]:
    """Returns the path and the parameters by which a key is asked for.

    Args:
        store: the store.
        key: the key as text.
        form: the last word of the path, of kinds that have several rows of a key.
    """
    if key in _STEPS:
        return store_path(store, form), [("key", key)]
    last = f"/{form}" if form else ""
    return f"{store_path(store)}/keys/{quote(key, safe='')}{last}", []


class Scope(StrEnum):
    """Whom to ask."""

    ALL = "all"
    """Every instance that may have rows: a key's owner first, and, if it has no such row, the
    others, for who wrote the topic may have partitioned it otherwise."""
    OWNER = "owner"
    """Of a key only its owner, by the default partitioner, as Kafka Streams does."""
    LOCAL = "local"
    """This instance only."""


class Shape(Enum):
    """What an answer is."""

    ROW = auto()
    PAGE = auto()
    COUNT = auto()


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
        shape: what its answer is.
    """

    builder: StoreBuilder
    read: Callable[[StoreRows], Part]
    scope: Scope
    partitions: tuple[int, ...] | None
    path: str
    parameters: Parameters
    shape: Shape = Shape.ROW
    key: Any = None
    limit: int = 1
    is_reverse: bool = False


class Given:
    """The parameters of one question, each taken once.

    Args:
        builder: the store.
        path: how it came.
        parameters: likewise.
        known: the names it takes, besides scope and partition.

    Raises:
        RefusedError: there are others, or one is given twice.
    """

    def __init__(
        self, builder: StoreBuilder, path: str, parameters: Parameters, known: Collection[str]
    ) -> None:
        self._builder = builder
        self._path = path
        self._parameters = parameters
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

    def text(self, name: str) -> str | None:
        """Returns a parameter as it was given."""
        return self._values.get(name)

    def key(self, name: str, in_path: str | None = None) -> Any:
        """Returns a key of the store, None where none is given.

        Args:
            name: of its parameter.
            in_path: what stands in the path in place of it.
        """
        text = self._values.get(name) if in_path is None else in_path
        if text is None:
            return None
        serde: Any = self._builder.key_serde
        try:
            return parse_key(serde, text)
        except ValueError as error:
            raise bad("bad-key", f"{name}: {error}", parameter=name, serde=serde.name) from error

    def moment_ms(self, name: str, default: T) -> int | T:
        """Returns a moment in epoch milliseconds."""
        return self.read(name, "bad-moment", parse_moment_ms, default)

    def question(
        self,
        read: Callable[[StoreRows], Part],
        shape: Shape,
        *,
        key: Any = None,
        paging: Paging | None = None,
    ) -> Question:
        """Returns the question that is asked with these parameters.

        Args:
            read: asks some partitions.
            shape: what the answer is.
            key: the one key that is asked for.
            paging: which rows of the answer, where it is a page.
        """
        forwarded = [one for one in self._parameters if one[0] not in ("scope", "partition")]
        return Question(
            self._builder,
            read,
            self.scope,
            self.partitions,
            self._path,
            forwarded,
            shape,
            key=key,
            limit=1 if paging is None else paging.limit,
            is_reverse=paging is not None and paging.is_reverse,
        )

    def read(self, name: str, code: str, read: Callable[[str], U], default: T) -> U | T:
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
        """Whom to ask."""
        return self.read("scope", "bad-scope", _scope, Scope.ALL)

    @property
    def paging(self) -> Paging:
        """Which rows of the answer: from `reverse`, `limit` and `cursor`."""
        return Paging(
            self.read("limit", "bad-number", _limit, LIMIT_DEFAULT),
            self.flag("reverse"),
            self.read("cursor", "bad-cursor", _cursor, None),
        )

    def flag(self, name: str) -> bool:
        """Returns whether a flag is set."""
        return self.read(name, "bad-flag", _flag, default=False)

    def refuse_together(self, *names: str) -> None:
        """Refuses parameters that contradict each other."""
        given = [name for name in names if name in self._values]
        if len(given) > 1:
            raise bad("contradiction", f"{' and '.join(given)} do not go together: leave one out")


def absent(question: Question) -> RefusedError:
    """Returns the refusal of a question for one row that is not there."""
    detail = f"store {question.builder.name!r} has no such key"
    if question.partitions is not None or question.scope is not Scope.ALL:
        detail += " where it was looked for; leave scope and partition out to ask everywhere"
    name = question.builder.name
    return RefusedError(HTTPStatus.NOT_FOUND, ABSENT, detail, store=name)


def cursor_text(order: bytes) -> str:
    """Returns a cursor as it goes into an answer."""
    return base64.urlsafe_b64encode(order).decode().rstrip("=")


# -- values --------------------------------------------------------------------------------


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
