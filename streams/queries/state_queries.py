"""Interactive queries v2 as values, and their results: for each partition rows or a reason.

Owns the queries and their results. The kinds of stores (`queries.kinds`) say which queries they
answer. It must not know stores.

Source: KIP-796, KIP-805, KIP-806, KIP-960, KIP-968, KIP-969, KIP-985, KIP-992, KIP-1356; JVM
`org.apache.kafka.streams.query`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from enum import Enum, auto
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from thalweg.stores.api import (
    KeyValueIterator,
    StoreIterator,
    ValueAndTimestamp,
    VersionedRecord,
    WindowStoreIterator,
)
from thalweg.stores.errors import StreamsError, public
from thalweg.stores.record import Record
from thalweg.stores.windowed import Windowed
from thalweg.streams.queries.position import Position

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
S = TypeVar("S")


class Rows(Enum):
    """What a query answers with."""

    NONE = auto()
    """One value, or None."""
    KEYS = auto()
    """Rows of key and value."""
    STARTS = auto()
    """Rows of window start and value."""
    RECORDS = auto()
    """Records with key, value, time and headers."""
    VERSIONS = auto()
    """Values with the times in which they were valid."""


def _refuse_none(query: object, key: object) -> None:
    if key is None:
        message = f"the key of a {type(query).__name__} cannot be None"
        raise ValueError(message)


class Query(Generic[R]):
    """A query of one partition of a store; `R` is the type of its answer.

    `App.query` asks it. A type checker knows the answer where the types are named:
    `KeyQuery[str, int]("river")`.
    """

    rows: ClassVar[Rows] = Rows.NONE


@dataclass(frozen=True)
class KeyQuery(Query[V | None], Generic[K, V]):
    """The value of a key of a key-value store, None if there is none.

    Example:
        >>> app.query("counts", KeyQuery[str, int]("river")).only.value
        12

    Attributes:
        key: the key.
        skip_cache: read the rows of the last commit, without the record cache.
    """

    key: K
    _: KW_ONLY
    skip_cache: bool = False

    def __post_init__(self) -> None:
        """Refuses None as a key.

        Raises:
            ValueError: it is None.
        """
        _refuse_none(self, self.key)


@dataclass(frozen=True)
class TimestampedKeyQuery(Query[ValueAndTimestamp[V] | None], Generic[K, V]):
    """As `KeyQuery`, with the event time of the value; of stores that keep it.

    Attributes:
        key: the key.
        skip_cache: read the rows of the last commit, without the record cache.
    """

    key: K
    _: KW_ONLY
    skip_cache: bool = False

    def __post_init__(self) -> None:
        """Refuses None as a key.

        Raises:
            ValueError: it is None.
        """
        _refuse_none(self, self.key)


@dataclass(frozen=True, kw_only=True)
class RangeQuery(Query[KeyValueIterator[K, V]], Generic[K, V]):
    """The rows of a key-value store between two keys, both included.

    Keys are in the order of their bytes.

    Example:
        >>> answer = app.query("counts", RangeQuery[str, int](lower="a", upper="f"))
        >>> for partition in answer.partitions.values():
        ...     with partition.value as rows:
        ...         print(dict(rows))

    Attributes:
        lower: the first key, None from the beginning.
        upper: the last key, None to the end.
        descending: highest keys first.
    """

    rows: ClassVar[Rows] = Rows.KEYS
    lower: K | None = None
    upper: K | None = None
    descending: bool = False


@dataclass(frozen=True, kw_only=True)
class TimestampedRangeQuery(Query[KeyValueIterator[K, ValueAndTimestamp[V]]], Generic[K, V]):
    """As `RangeQuery`, with the event times of the values; of stores that keep them.

    Attributes:
        lower: the first key, None from the beginning.
        upper: the last key, None to the end.
        descending: highest keys first.
    """

    rows: ClassVar[Rows] = Rows.KEYS
    lower: K | None = None
    upper: K | None = None
    descending: bool = False


@dataclass(frozen=True)
class WindowKeyQuery(Query[WindowStoreIterator[V]], Generic[K, V]):
    """The windows of a key whose starts are between two moments, both included.

    Values are as the store keeps them: `ValueAndTimestamp` in a timestamped window store, as every
    windowed aggregation has.

    Attributes:
        key: the key.
        time_from: the first start: epoch milliseconds or a datetime.
        time_to: the last start.
    """

    rows: ClassVar[Rows] = Rows.STARTS
    key: K
    time_from: int | datetime
    time_to: int | datetime

    def __post_init__(self) -> None:
        """Refuses None as a key.

        Raises:
            ValueError: it is None.
        """
        _refuse_none(self, self.key)


@dataclass(frozen=True, kw_only=True)
class WindowRangeQuery(Query[KeyValueIterator[Windowed[K], V]], Generic[K, V]):
    """Windows of all keys whose starts are between two moments, or all sessions of a key.

    A window store is asked by times, a session store by key. Values are as the store keeps them,
    see `WindowKeyQuery`.

    Attributes:
        key: the key; of session stores.
        time_from: the first start: epoch milliseconds or a datetime; of window stores.
        time_to: the last start.
    """

    rows: ClassVar[Rows] = Rows.KEYS
    key: K | None = None
    time_from: int | datetime | None = None
    time_to: int | datetime | None = None


@dataclass(frozen=True)
class VersionedKeyQuery(Query[VersionedRecord[V] | None], Generic[K, V]):
    """The version of a key of a versioned store, None if there is none.

    Example:
        >>> app.query("rates", VersionedKeyQuery[str, float]("eur", as_of=1_500)).only.value
        VersionedRecord(value=1.08, timestamp=1000, valid_to=2000)

    Attributes:
        key: the key.
        as_of: the version that is valid at this moment: epoch milliseconds or a datetime; None for
            the latest.
    """

    key: K
    _: KW_ONLY
    as_of: int | datetime | None = None

    def __post_init__(self) -> None:
        """Refuses None as a key.

        Raises:
            ValueError: it is None.
        """
        _refuse_none(self, self.key)


@dataclass(frozen=True)
class MultiVersionedKeyQuery(Query[StoreIterator[VersionedRecord[V]]], Generic[K, V]):
    """The versions of a key of a versioned store that are valid at some time of a span.

    Attributes:
        key: the key.
        time_from: the first moment: epoch milliseconds or a datetime; None for no bound.
        time_to: the last moment; None for no bound.
        ascending: oldest first; else newest first.
    """

    rows: ClassVar[Rows] = Rows.VERSIONS
    key: K
    _: KW_ONLY
    time_from: int | datetime | None = None
    time_to: int | datetime | None = None
    ascending: bool = False

    def __post_init__(self) -> None:
        """Refuses None as a key.

        Raises:
            ValueError: it is None.
        """
        _refuse_none(self, self.key)


@dataclass(frozen=True)
class TimestampedKeyWithHeadersQuery(Query[Record[K, V] | None], Generic[K, V]):
    """The row of a key as a record with its time and headers; of stores that keep these.

    Attributes:
        key: the key.
        skip_cache: read the rows of the last commit, without the record cache.
    """

    key: K
    _: KW_ONLY
    skip_cache: bool = False

    def __post_init__(self) -> None:
        """Refuses None as a key.

        Raises:
            ValueError: it is None.
        """
        _refuse_none(self, self.key)


@dataclass(frozen=True, kw_only=True)
class TimestampedRangeWithHeadersQuery(Query[StoreIterator[Record[K, V]]], Generic[K, V]):
    """The rows between two keys, both included, as records with their times and headers.

    Attributes:
        lower: the first key, None from the beginning.
        upper: the last key, None to the end.
        descending: highest keys first.
    """

    rows: ClassVar[Rows] = Rows.RECORDS
    lower: K | None = None
    upper: K | None = None
    descending: bool = False


@dataclass(frozen=True)
class TimestampedWindowKeyWithHeadersQuery(
    Query[StoreIterator[Record[Windowed[K], V]]], Generic[K, V]
):
    """The windows of a key between two starts, as records with their times and headers.

    Attributes:
        key: the key.
        time_from: the first start: epoch milliseconds or a datetime.
        time_to: the last start.
    """

    rows: ClassVar[Rows] = Rows.RECORDS
    key: K
    time_from: int | datetime
    time_to: int | datetime

    def __post_init__(self) -> None:
        """Refuses None as a key.

        Raises:
            ValueError: it is None.
        """
        _refuse_none(self, self.key)


@dataclass(frozen=True, kw_only=True)
class TimestampedWindowRangeWithHeadersQuery(
    Query[StoreIterator[Record[Windowed[K], V]]], Generic[K, V]
):
    """The windows of all keys between two starts, or the sessions of a key, as records.

    Attributes:
        key: the key; of session stores.
        time_from: the first start: epoch milliseconds or a datetime; of window stores.
        time_to: the last start.
    """

    rows: ClassVar[Rows] = Rows.RECORDS
    key: K | None = None
    time_from: int | datetime | None = None
    time_to: int | datetime | None = None


# -- what comes back -----------------------------------------------------------------------


class FailureReason(Enum):
    """Why a partition did not answer a query."""

    UNKNOWN_QUERY_TYPE = auto()
    """The store does not answer queries of this kind."""
    NOT_ACTIVE = auto()
    """An active, running task was required, and the partition's is none now."""
    NOT_UP_TO_BOUND = auto()
    """The store is older than `position_bound`: ask again, or ask another instance."""
    NOT_PRESENT = auto()
    """The partition is not in this instance."""
    DOES_NOT_EXIST = auto()
    """The store has no such partition."""
    STORE_EXCEPTION = auto()
    """The store failed; the message says how."""


@public
class QueryFailedError(StreamsError):
    """The value of a partition without an answer was read."""


class UnansweredError(StreamsError):
    """A kind of stores does not answer a query in this form."""


@dataclass(frozen=True)
class QueryResult(Generic[R]):
    """The answer of one partition.

    Attributes:
        position: the position of the store when it was read, as a lower bound.
        failure: why there is no answer, None if there is one.
        message: the reason as text.
        execution_info: how the query was executed, if that was requested.
    """

    _value: R | None = field(repr=False, default=None)
    _: KW_ONLY
    position: Position = Position()  # noqa: RUF009 - it never changes
    failure: FailureReason | None = None
    message: str = ""
    execution_info: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether there is an answer."""
        return self.failure is None

    @property
    def value(self) -> R:
        """The answer.

        Raises:
            QueryFailedError: there is none; says why.
        """
        if self.failure is not None:
            message = f"{self.failure.name}: {self.message}"
            raise QueryFailedError(message)
        value: Any = self._value
        found: R = value
        return found


@dataclass(frozen=True)
class StateQueryResult(Generic[R]):
    """The answers of the partitions of a store.

    As a context manager it closes the iterators it holds.

    Attributes:
        partitions: partition -> its answer; of the partitions that were asked, or of all in this
            instance.
        global_result: the answer of a global store, which has no partitions.
    """

    partitions: Mapping[int, QueryResult[R]]
    global_result: QueryResult[R] | None = None

    @property
    def only(self) -> QueryResult[R] | None:
        """The one answer that has a value, None if there is none.

        Raises:
            ValueError: several partitions have one.
        """
        found = [one for one in self._all if one.is_success and one.value is not None]
        if len(found) > 1:
            numbers = ", ".join(str(n) for n, one in self.partitions.items() if one in found)
            message = f"several partitions have an answer ({numbers}): read `partitions`"
            raise ValueError(message)
        return found[0] if found else None

    @property
    def position(self) -> Position:
        """How far the partitions were, all together."""
        return Position.of_all(one.position for one in self._all)

    @property
    def _all(self) -> list[QueryResult[R]]:
        own = [] if self.global_result is None else [self.global_result]
        return [*own, *self.partitions.values()]

    def close(self) -> None:
        """Closes the iterators of all partitions."""
        for one in self._all:
            if one.is_success and isinstance(one.value, StoreIterator):
                one.value.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
