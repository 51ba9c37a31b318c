"""Reads the rows of a store by a request in text, which is answered in JSON.

Owns how pages follow each other and what an HTTP error means. Keys and times are sent as text, as
they were typed, because the answering process knows the serdes. `PageAnswers` asks a running
worker, with any function that fetches pages. `OwnAnswers` asks an application of this process. It
must not know how a page is fetched, nor how rows are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import UnknownStoreError
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.errors import BrokerError
from thalweg.streams.queries.answers import RefusedError
from thalweg.streams.queries.kinds.kind import KEY, ROWS, RowsAsked, StoreKind, Target
from thalweg.streams.queries.kinds.known import kind_named, kind_of
from thalweg.streams.queries.questions import (
    ABSENT,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    Parameters,
    Question,
    cursor_text,
    key_target,
    store_path,
)
from thalweg.streams.queries.routing import Router, StoreAccess

Get: TypeAlias = Callable[[str], tuple[int, bytes]]
"""Fetches path and query of a worker: returns HTTP status and body; raises PeerError."""

T = TypeVar("T")

_RETRY_MS: Final = 100


class RunningStore(msgspec.Struct, frozen=True):
    """A store of an application.

    Attributes:
        name: its name.
        kind: its kind, as `StoreBuilder.kind`.
        key_serde: the name of its keys' serde.
        value_serde: the name of its values' serde.
    """

    name: str
    kind: str
    key_serde: str
    value_serde: str

    @staticmethod
    def of(builder: StoreBuilder) -> RunningStore:
        """Returns a store by its description."""
        assert builder.key_serde is not None
        assert builder.value_serde is not None
        return RunningStore(
            builder.name, builder.kind, builder.key_serde.name, builder.value_serde.name
        )

    @property
    def asked(self) -> StoreKind:
        """How it is asked."""
        return kind_named(self.kind)


class AnsweredRows(NamedTuple):
    """One page of an answer.

    Attributes:
        rows: as JSON, in order.
        cursor: leads on; None where there are no more.
    """

    rows: Sequence[bytes]
    cursor: str | None = None


class Answers(Protocol):
    """Whoever answers questions to stores."""

    def answer(self, store: RunningStore, target: Target) -> AnsweredRows:
        """Returns a page of rows, or the one row there is.

        Raises:
            RefusedError: there is no answer, or the question is wrong; says why.
        """
        ...


def asked_rows(
    answers: Answers, store: RunningStore, asked: RowsAsked, limit: int | None = None
) -> Iterator[bytes]:
    """Yields rows as JSON, in order, a page at a time.

    Args:
        answers: answers.
        store: the store.
        asked: which rows.
        limit: the most rows; None for all.

    Raises:
        RefusedError: there is no answer, or the question is wrong; says why.
        PeerError: there is no worker, or it is gone.
    """
    target = store.asked.target(asked)
    if target.is_one_row:
        rows = answers.answer(store, target).rows
        yield from rows if limit is None else rows[:limit]
        return
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = LIMIT_DEFAULT if left is None else min(left, LIMIT_MAX)
        more = [("limit", str(size)), *([("cursor", cursor)] if cursor is not None else [])]
        page = answers.answer(store, target._replace(parameters=[*target.parameters, *more]))
        # Rows of equal order are not divided: there may be more than were asked for.
        yield from page.rows if left is None else page.rows[:left]
        cursor = page.cursor
        if cursor is None:
            return
        left = None if left is None else left - len(page.rows)


# -- an application of this process --------------------------------------------------------


def question_of(builder: StoreBuilder, target: Target) -> Question:
    """Returns a question to a store, as it would come over HTTP.

    Raises:
        RefusedError: it cannot be understood, or the store does not answer it.
    """
    path, parameters, key = _path_of(builder.name, target)
    return kind_of(builder).question(builder, target.form, path, parameters, key)


class OwnAnswers:
    """Asks an application of this process; it answers with the rows that it has.

    Args:
        instance: the application.
    """

    def __init__(self, instance: StoreAccess) -> None:
        self._instance = instance
        self._router = Router.alone(instance)

    def answer(self, store: RunningStore, target: Target) -> AnsweredRows:
        """Returns a page of rows, or the one row there is."""
        question = question_of(self._instance.store_builder(store.name), target)
        part = self._router.answer(question)
        cursor = cursor_text(part.rows[-1].order) if part.is_cut else None
        return AnsweredRows([bytes(row.row) for row in part.rows], cursor)


# -- a running worker ----------------------------------------------------------------------


class _Stores(msgspec.Struct, frozen=True):
    stores: list[RunningStore]


class _Rows(msgspec.Struct, frozen=True):
    rows: list[msgspec.Raw]
    cursor: str | None


class _Problem(msgspec.Struct, frozen=True):
    code: str
    detail: str


_decode_stores: Final[Callable[[bytes], _Stores]] = msgspec.json.Decoder(_Stores).decode
_decode_rows: Final[Callable[[bytes], _Rows]] = msgspec.json.Decoder(_Rows).decode
_decode_problem: Final[Callable[[bytes], _Problem]] = msgspec.json.Decoder(_Problem).decode


class PageAnswers:
    """Asks a running worker; it answers with the rows of all instances.

    Args:
        get: fetches its pages.
        patience: how long to ask again a store that is not ready.
        clock: where time comes from.
    """

    def __init__(
        self, get: Get, *, patience: timedelta = timedelta(0), clock: Clock | None = None
    ) -> None:
        self._get = get
        self._patience_ms = patience / timedelta(milliseconds=1)
        self._clock = clock or SystemClock()

    def stores(self) -> list[RunningStore]:
        """Returns the stores there are.

        Raises:
            PeerError: there is no worker.
            BrokerError: what it says cannot be read.
        """
        return _read(_decode_stores, _accepted(*self._get("/stores"))).stores

    def store(self, name: str) -> RunningStore:
        """Returns a store.

        Raises:
            UnknownStoreError: there is none of that name; names those there are.
            PeerError: there is no worker.
        """
        found = {store.name: store for store in self.stores()}
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            message = f"there is no store {name!r}; the stores of that worker: {known}"
            raise UnknownStoreError(message)
        return found[name]

    def answer(self, store: RunningStore, target: Target) -> AnsweredRows:
        """Returns a page of rows, or the one row there is."""
        path, parameters, _ = _path_of(store.name, target)
        body = self._body(f"{path}?{urlencode(parameters)}" if parameters else path)
        if body is None:
            return AnsweredRows([])
        if target.is_one_row:
            return AnsweredRows([body])
        page = _read(_decode_rows, body)
        return AnsweredRows([bytes(row) for row in page.rows], page.cursor)

    def _body(self, target: str) -> bytes | None:
        """Returns the body of an answer, None where there is no such row."""
        deadline_ms = self._clock.monotonic_ms() + self._patience_ms
        while True:
            try:
                return _accepted(*self._get(target))
            except RefusedError as refusal:
                if refusal.code == ABSENT and refusal.status is HTTPStatus.NOT_FOUND:
                    return None
                is_soon = refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
                if not is_soon or self._clock.monotonic_ms() >= deadline_ms:
                    raise
            self._clock.sleep_ms(_RETRY_MS)


def _path_of(store: str, target: Target) -> tuple[str, Parameters, str | None]:
    """Returns path, parameters and key of a question."""
    if target.key is None:
        return store_path(store, target.form), target.parameters, None
    path, own = key_target(store, target.key, ROWS if target.form == KEY else target.form)
    return path, [*own, *target.parameters], None if own else target.key


def _accepted(status: int, body: bytes) -> bytes:
    """Returns the body of an answer.

    Raises:
        RefusedError: it is a refusal.
    """
    if status == HTTPStatus.OK:
        return body
    try:
        problem = _decode_problem(body)
    except ValueError:
        problem = _Problem("refused", f"the worker answers with HTTP status {status}")
    try:
        known = HTTPStatus(status)
    except ValueError:
        known = HTTPStatus.BAD_GATEWAY
    raise RefusedError(known, problem.code, problem.detail)


def _read(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except ValueError as error:
        message = (
            f"what the worker answers cannot be read: {error}; use the thalweg that it runs with"
        )
        raise BrokerError(message) from error
