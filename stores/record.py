"""Records: for users, in raw form, and the cell that holds the current record.

Owns `Record`, `Headers`, the record's context and metadata, and the internal forms of a record. A
`RawRecord` is a plain tuple, because the hot path must not create objects per record. This module
must not know topics, tasks or serdes.

An `Origin` says where a raw record was in its partition: its offset, or (offset, headers) if it has
headers, or None if there is no record (in a punctuation). Most records have no headers, so most
origins are a plain int that costs nothing.

Source: JVM `org.apache.kafka.streams.processor.api.Record`, `RecordHeaders`,
`ProcessorRecordContext`; KIP-478.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from thalweg.stores.callables import shown
from thalweg.stores.errors import StreamsError

K = TypeVar("K")
V = TypeVar("V")
KNew = TypeVar("KNew")
VNew = TypeVar("VNew")

HeaderList: TypeAlias = list[tuple[str, bytes | None]]
"""Header names and values, in order; a name may occur more than once."""

Origin: TypeAlias = int | tuple[int, HeaderList] | None
"""Offset of a record, or (offset, headers), or None without a record."""

RawRecord: TypeAlias = tuple[int, bytes | None, bytes | None, Origin]
"""(timestamp in epoch ms, key, value, origin)."""

NO_OFFSET = -1


def offset_of(origin: Origin) -> int:
    """Returns the offset of an origin, -1 if there is no record."""
    if origin.__class__ is int:
        return origin
    return NO_OFFSET if origin is None else origin[0]  # type: ignore[index]


def headers_of(origin: Origin) -> HeaderList | None:
    """Returns the headers of an origin, None if it has none."""
    return origin[1] if origin.__class__ is tuple else None


def record_offset(record: RawRecord) -> int:
    """Returns the offset of a raw record, for sorting and searching by it."""
    return offset_of(record[3])


class Columns(NamedTuple):
    """The fields of records, as columns in the order of keys; each can be read once.

    Records of one key keep the order of the log; those without a key are left out.

    Attributes:
        timestamps: epoch ms.
        keys: in rising order.
        values: None in the place of a deletion.
    """

    timestamps: Iterable[int]
    keys: Iterable[bytes]
    values: Sequence[bytes | None]


class LazyRecords(Sequence[RawRecord]):
    """Raw records that are made on request, one after the other.

    A transport may read the fields of its messages faster than it can make tuples of them. A reader
    that needs only fields, as the restoration of most stores, makes no tuples.
    """

    __slots__ = ()

    @abstractmethod
    def columns_by_key(self) -> Columns:
        """Returns the fields in the order of keys."""


_record_key = itemgetter(1)


def columns_by_key(records: Sequence[RawRecord]) -> Columns:
    """Returns the fields of raw records in the order of their keys."""
    if isinstance(records, LazyRecords):
        return records.columns_by_key()
    ordered: list[Any] = [record for record in records if record[1] is not None]
    ordered.sort(key=_record_key)
    return Columns(
        [record[0] for record in ordered],
        [record[1] for record in ordered],
        [record[2] for record in ordered],
    )


def _is_header(item: tuple[Any, ...]) -> bool:
    return (
        item.__class__ is tuple
        and len(item) == 2
        and isinstance(item[0], str)
        and (item[1] is None or item[1].__class__ is bytes)
    )


def checked_headers(given: object) -> HeaderList:
    """Returns what a user gives as headers as a list of (name, value).

    Raises:
        TypeError: it is not that; says what it is.
    """
    wanted = 'headers are Headers or a list of (name, value), such as [("trace", b"1")]'
    if isinstance(given, Headers):
        return given.raw()
    if isinstance(given, Mapping):
        message = f"{wanted}, got a {type(given).__name__}: a name may repeat; give list(….items())"
        raise TypeError(message)
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        message = f"{wanted}, got {shown(given)}"
        raise TypeError(message)
    checked: HeaderList = []
    for item in given:
        pair = tuple(item) if isinstance(item, tuple | list) else ()
        if len(pair) == 2 and isinstance(pair[1], bytearray | memoryview):
            pair = (pair[0], bytes(pair[1]))
        if not _is_header(pair):
            message = f"{wanted}; a name is a str, a value bytes or None; got {shown(item)}"
            raise TypeError(message)
        checked.append((pair[0], pair[1]))
    return checked


class Headers:
    """Names and values that travel with a record, in order; names may repeat.

    Mutable: what a processor adds to a record's headers goes with the record.

    Args:
        items: (name, value) in order.

    Raises:
        TypeError: an item is no name (str) and value (bytes or None).
    """

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, bytes | None]] = ()) -> None:
        self._items: HeaderList = list(items)
        if self._items and not all(map(_is_header, self._items)):
            self._items = checked_headers(items if isinstance(items, Mapping) else self._items)

    def add(self, name: str, value: bytes | None) -> Headers:
        """Appends a header and returns these headers.

        Raises:
            TypeError: the name is no str, or the value neither bytes nor None.
        """
        self._items.extend(checked_headers([(name, value)]))
        return self

    def remove(self, name: str) -> Headers:
        """Removes every header of that name and returns these headers."""
        self._items = [item for item in self._items if item[0] != name]
        return self

    def last(self, name: str) -> bytes | None:
        """Returns the value of the last header of that name, None if there is none."""
        for found, value in reversed(self._items):
            if found == name:
                return value
        return None

    def all(self, name: str) -> list[bytes | None]:
        """Returns the values of all headers of that name, in order."""
        return [value for found, value in self._items if found == name]

    def copy(self) -> Headers:
        """Returns headers of their own with the same items."""
        return Headers(self._items)

    def raw(self) -> HeaderList:
        """Returns the items themselves, for the runtime; they must not be changed there."""
        return self._items

    def __iter__(self) -> Iterator[tuple[str, bytes | None]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return any(found == name for found, _ in self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"


def wrong_timestamp(given: object, what: str = "the timestamp of a record") -> TypeError:
    """Returns the error about a timestamp that is no int."""
    return TypeError(f"{what} is an int of epoch milliseconds, got {shown(given)}")


class Record(Generic[K, V]):
    """A record as a `Processor` receives and forwards it.

    Derived records get headers of their own, so that a change to one does not show in the
    other.

    Args:
        key: the key, may be None.
        value: the value, may be None.
        timestamp: event time in epoch milliseconds, 0 or more.
        headers: its headers; kept, not copied.

    Raises:
        StreamsError: the timestamp is negative.
        TypeError: the timestamp is no number. Other faults show when the record is forwarded.
    """

    __slots__ = ("headers", "key", "timestamp", "value")

    def __init__(self, key: K, value: V, timestamp: int, headers: Headers | None = None) -> None:
        try:
            is_negative = timestamp < 0
        except TypeError:
            raise wrong_timestamp(timestamp) from None
        if is_negative:
            message = (
                f"Malformed Record: negative timestamp {timestamp} for key {key!r}; "
                "give it the time of the event in epoch milliseconds"
            )
            raise StreamsError(message)
        self.key = key
        self.value = value
        self.timestamp = timestamp
        self.headers = Headers() if headers is None else headers

    def with_key(self, key: KNew) -> Record[KNew, V]:
        """Returns a copy with another key."""
        return Record(key, self.value, self.timestamp, self.headers.copy())

    def with_value(self, value: VNew) -> Record[K, VNew]:
        """Returns a copy with another value."""
        return Record(self.key, value, self.timestamp, self.headers.copy())

    def with_timestamp(self, timestamp: int) -> Record[K, V]:
        """Returns a copy with another event time.

        Raises:
            StreamsError: the timestamp is negative.
        """
        return Record(self.key, self.value, timestamp, self.headers.copy())

    def with_headers(self, headers: Headers) -> Record[K, V]:
        """Returns a copy with other headers, which are copied.

        Raises:
            TypeError: they are no headers.
        """
        return Record(self.key, self.value, self.timestamp, Headers(checked_headers(headers)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Record)
            and (self.key, self.value, self.timestamp) == (other.key, other.value, other.timestamp)
            and self.headers == other.headers
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Record({self.key!r}, {self.value!r}, {self.timestamp}, {self.headers!r})"


class RecordMetadata(NamedTuple):
    """Where the current record came from.

    Attributes:
        topic: its topic, None in a punctuation.
        partition: its partition, -1 in a punctuation.
        offset: its offset, -1 in a punctuation.
    """

    topic: str | None
    partition: int
    offset: int


class RecordContext(NamedTuple):
    """What a topic extractor sees of a record in addition to key and value.

    Attributes:
        topic: the topic it was read from, None in a punctuation.
        partition: its partition, -1 in a punctuation.
        offset: its offset, -1 in a punctuation.
        timestamp: event time in epoch milliseconds.
        headers: its headers.
    """

    topic: str | None
    partition: int
    offset: int
    timestamp: int
    headers: Headers


class CurrentRecord:
    """The cell of a task that tells which record is being processed.

    Chains pass key, value and timestamp as arguments. All else about the record is here: the source
    writes it once per record, and the few nodes that need it read it.

    Attributes:
        topic: topic read from, None in a punctuation.
        partition: partition read from, -1 in a punctuation.
        origin: offset and headers.
        timestamp: event time as read, epoch milliseconds.
        run: the records being processed, by offset, one of them this; none in a punctuation
            and while a cache is flushed.
        is_latest: whether a change under way is the latest of its key. A versioned table also
            changes rows of the past, and says so here.
    """

    __slots__ = ("is_latest", "origin", "partition", "run", "timestamp", "topic")

    def __init__(self) -> None:
        self.topic: str | None = None
        self.partition = -1
        self.origin: Origin = None
        self.timestamp = -1
        self.run: Sequence[RawRecord] = ()
        self.is_latest = True

    def leave(self, timestamp: int) -> None:
        """Notes that no record is being processed, as in a punctuation of that time."""
        self.topic, self.partition, self.origin = None, -1, None
        self.timestamp, self.run = timestamp, ()

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Puts the cell back, at the end of the block, to what it is now."""
        before = self.topic, self.partition, self.origin, self.timestamp, self.run
        try:
            yield
        finally:
            self.topic, self.partition, self.origin, self.timestamp, self.run = before

    def raw(self) -> tuple[bytes | None, bytes | None]:
        """Returns key and value as read, for dead letters; looks the record up."""
        run, offset = self.run, self.offset()
        index = bisect_left(run, offset, key=record_offset)
        if index < len(run) and record_offset(run[index]) == offset:
            return run[index][1], run[index][2]
        return None, None

    def offset(self) -> int:
        """Returns the record's offset, -1 where there is no record."""
        return offset_of(self.origin)

    def headers(self) -> HeaderList | None:
        """Returns the record's headers, None where it has none."""
        return headers_of(self.origin)

    def __repr__(self) -> str:
        place: Any = (self.topic, self.partition, self.offset())
        return f"CurrentRecord{place!r}"
