"""Grace buffers: records of a stream that wait for a table, in the order of time.

Owns the description of a buffer (`GraceBufferSpec`), the place of a record, the changelog, how that
is restored, and how records leave the buffer. It must not know when they are due.

Every record is kept, also several records of one key and time, which are numbered. A row contains
the record's origin and its value, so a record leaves the buffer unchanged. The earliest rows are in
memory, up to a key that `_Ahead` knows. The later rows are read from the store in slices when they
are needed.

The JVM's numbers begin anew with each start and may be equal to the number of a waiting row; here
such a number is skipped. After a restart the JVM begins to read at its earliest new row, so it does
not find earlier rows of before the restart; here they are found.

Source: JVM `RocksDBTimeOrderedKeyValueBuffer`, `RocksDBTimeOrderedKeyValueBytesStore`;
kafka-streams A14, KIP-923.
"""

from __future__ import annotations

from bisect import insort_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

from thalweg.stores.api import CacheBudget, Dump, RestoreRecord, StoreHost, TaskStore
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.change_formats import (
    VERSION,
    ChangeContext,
    decode_logged,
    encode_buffered,
    encode_logged,
)
from thalweg.stores.codec import RowCodec
from thalweg.stores.record import Origin, headers_of, offset_of
from thalweg.stores.row_format import PLAIN, RowFormat
from thalweg.stores.rows.contract import Change
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.updates import Forward, GraceBuffer, Pair, Process, Updates

_TIME_FIRST: Final = b"\0"
_NO_TIME: Final = bytes(8)
_LARGEST_SEQNUM: Final = 2**31 - 1
_AHEAD: Final = 1_000
"""How many of the earliest rows are read at once, and kept in memory at least."""

_time: Final = Struct(">q")
_seqnum: Final = Struct(">i")
_KEY_STARTS: Final = 1 + _time.size
_OWN: Final = ChangeContext(-1, -1, None, -1, [])


@dataclass(frozen=True, slots=True)
class GraceBufferSpec:
    """A buffer of a stream's records."""

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "grace-buffer"

    @property
    def function(self) -> str:
        """What describes such a store, for messages."""
        return "join"

    @property
    def row_format(self) -> RowFormat:
        """What stands beside a value in a row, as users would see it: nothing."""
        return PLAIN

    def with_timestamps(self) -> GraceBufferSpec:
        """Returns the same: its rows have no such form."""
        return self

    def with_headers(self) -> GraceBufferSpec:
        """Returns the same: its rows have headers as they are."""
        return self

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names."""
        return {"cleanup.policy": "compact"}

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TypedGraceBuffer:
        """Opens a buffer; it needs no cache."""
        return TypedGraceBuffer(PendingByteStore(open_bytes()), codec, host)


class _Held(NamedTuple):
    """A record that waits."""

    raw_key: bytes
    value: bytes
    timestamp: int
    topic: str | None
    partition: int
    origin: Origin


_Waiting: TypeAlias = tuple[bytes, _Held]
"""(row key, record)."""


class TypedGraceBuffer(TaskStore, GraceBuffer):
    """A buffer of records in the order of time.

    Args:
        rows: keeps the bytes; closed with this.
        codec: encodes keys and values.
        host: the task it lives in.
    """

    def __init__(self, rows: PendingByteStore, codec: RowCodec, host: StoreHost) -> None:
        self.rows = rows
        self.codec = codec
        self.builder = codec.builder
        self.host = host
        self.puts_total = 0
        self._number = 0
        # The earliest rows, each before `_until`; what is not before it is below only. None
        # stands for the end of the rows.
        self._ahead: list[_Waiting] = []
        self._until: bytes | None = None
        self._may_collide = False
        self._observed_ms = -1
        self._look_again()

    def _look_again(self) -> None:
        """Finds out what is below: rows were written past this."""
        self._ahead.clear()
        last = next(iter(self.rows.scan(None, None, reverse=True)), None)
        self._until = None if last is None else b""
        self._may_collide = last is not None
        if last is not None:
            self._observed_ms = max(self._observed_ms, _time_of(last[0]))

    # -- what the operator uses ----------------------------------------------------------

    @property
    def observed_ms(self) -> int:
        """The latest record that was held, -1 before the first."""
        return self._observed_ms

    def hold(self, key: Any, value: Any, timestamp: int) -> None:
        """Takes in a record, with what the task's current record says of it."""
        codec, current = self.codec, self.codec.current
        held = _Held(
            codec.encode_key(key),
            codec.encode_value(value),
            timestamp,
            current.topic,
            current.partition,
            current.origin,
        )
        self.puts_total += 1
        row_key = self._numbered(held)
        row = _row_of(held)
        self.rows.put(row_key, row)
        if codec.log is not None:
            # As in the JVM the record has no timestamp: the log gives it one.
            codec.log(row_key, encode_logged(row, 0), None, None)
        self._observed_ms = max(self._observed_ms, timestamp)
        if self._until is None or row_key < self._until:
            self._put_ahead(row_key, held)

    def _numbered(self, held: _Held) -> bytes:
        """Returns where a record stands."""
        place = _TIME_FIRST + _time.pack(held.timestamp) + held.raw_key
        self._number = (self._number + 1) & _LARGEST_SEQNUM
        row_key = place + _seqnum.pack(self._number)
        while self._may_collide and self.rows.get(row_key) is not None:
            self._number = (self._number + 1) & _LARGEST_SEQNUM
            row_key = place + _seqnum.pack(self._number)
        return row_key

    def _put_ahead(self, row_key: bytes, held: _Held) -> None:
        ahead = self._ahead
        if not ahead or ahead[-1][0] < row_key:
            ahead.append((row_key, held))
        else:
            insort_right(ahead, (row_key, held), key=_row_key)
        if len(ahead) > 2 * _AHEAD:
            self._until = ahead[_AHEAD][0]
            del ahead[_AHEAD:]

    def let_go(self, until_ms: int, forward: Process) -> None:
        """Lets records up to a time go, the earliest first.

        Each is forwarded with its own origin, and is in the buffer until that is done.
        """
        if until_ms < 0 or (self._until is None and not self._ahead):
            return
        codec, current, ahead = self.codec, self.codec.current, self._ahead
        with current.saved():
            current.run = ()
            while self._has_ahead():
                row_key, held = ahead[0]
                if held.timestamp > until_ms:
                    break
                current.topic, current.partition = held.topic, held.partition
                current.origin, current.timestamp = held.origin, held.timestamp
                key, value = codec.decode_key(held.raw_key), codec.decode_value(held.value)
                forward(key, value, held.timestamp)
                self.rows.put(row_key, None)
                if codec.log is not None:
                    codec.log(row_key, None, None, None)
                del ahead[0]

    def _has_ahead(self) -> bool:
        """Tells whether anything waits, and reads on where it is not in memory."""
        if self._ahead:
            return True
        if self._until is None:
            return False
        found = list(islice(self.rows.scan(self._until, None), _AHEAD + 1))
        self._until = found[_AHEAD][0] if len(found) > _AHEAD else None
        self._ahead += [(row_key, _held(row_key, row)) for row_key, row in found[:_AHEAD]]
        return bool(self._ahead)

    # -- what operators of other kinds would use -----------------------------------------

    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Any]:
        """Refuses: rows of a buffer are no table's.

        Raises:
            TypeError: always.
        """
        message = f"store '{self.name}' is the buffer of a join: it cannot keep a table"
        raise TypeError(message)

    def read_row(self, key: Any) -> Pair | None:
        """Returns None: a buffer has no row of a key."""
        return None

    def forwarded_row(self, key: Any) -> Pair | None:
        """Returns None: a buffer has no row of a key."""
        return None

    # -- what its task uses --------------------------------------------------------------

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self.codec.name

    def __repr__(self) -> str:
        state = "" if self.is_open else ", closed"
        return f"<{self.builder.kind} store {self.name!r} of task {self.host.task_id}{state}>"

    @property
    def persistent(self) -> bool:
        """Whether the store's bytes outlive the process."""
        return self.rows.persistent

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self.rows.is_open

    @property
    def uncached(self) -> TaskStore:
        """The buffer itself, which has no cache."""
        return self

    @property
    def is_cached(self) -> bool:
        """Whether updates wait in a cache for a flush: no."""
        return False

    def flush_cache(self) -> None:
        """Does nothing: records are written and logged as they come."""

    def apply_pending(self, *, durable: bool = False, note: bytes | None = None) -> None:
        """Writes what was pending to the backend, in one batch, after a commit."""
        self.rows.apply(durable=durable, note=note)

    def prepare(self, note: bytes) -> None:
        """Keeps what is pending where it lasts, before the commit that will decide about it."""
        self.rows.prepare(note)

    def prepared(self) -> bytes | None:
        """Returns the note of what was prepared and not applied, None where there is nothing."""
        return self.rows.prepared()

    def settle(self, *, is_committed: bool) -> None:
        """Makes rows of what was prepared, or gives it up."""
        self.rows.settle(is_committed=is_committed)

    def note(self) -> bytes | None:
        """Returns the note of the last `apply_pending` that had one, None where there is none."""
        return self.rows.note()

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend; of one key the last wins."""
        changes: list[Change] = [
            (key, None if value is None else value[: -len(_NO_TIME)])
            for _, key, value, _ in batch
            if key is not None
        ]
        changes.sort(key=_row_key)  # stable: of one row the last still wins
        self.rows.restore(changes)
        self._look_again()

    def close(self) -> None:
        """Releases the rows; what was not applied is forgotten."""
        self.rows.close()
        self._ahead.clear()

    # -- what others ask -----------------------------------------------------------------

    def read_only(self) -> GraceBufferFace:
        """Returns a face that any thread may use while the worker writes."""
        return GraceBufferFace(self)

    def dump(self) -> Dump:
        """Returns kind and rows, in the order in which they are let go; bytes as hex."""
        rows = self.rows.scan(None, None)
        return (
            self.builder.kind,
            [{"key": row_key.hex(), "value": row.hex()} for row_key, row in rows],
        )


class GraceBufferFace:
    """What other threads may ask of one task's buffer: its rows are not to be queried."""

    def __init__(self, store: TypedGraceBuffer) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self._store.name

    def approximate_num_entries(self) -> int:
        """Estimates how many records wait."""
        return self._store.rows.approximate_count()


def _row_key(item: Any) -> bytes:
    row_key: bytes = item[0]
    return row_key


def _time_of(row_key: bytes) -> int:
    timestamp: int = _time.unpack_from(row_key, 1)[0]
    return timestamp


def _row_of(held: _Held) -> bytes:
    context = ChangeContext(
        held.timestamp,
        offset_of(held.origin),
        held.topic,
        held.partition,
        headers_of(held.origin) or [],
    )
    return encode_buffered(context, None, None, held.value)


def _held(row_key: bytes, row: bytes) -> _Held:
    context, value = _read(row)
    return _Held(
        row_key[_KEY_STARTS : -_seqnum.size],
        value,
        _time_of(row_key),
        context.topic,
        context.partition,
        (context.offset, context.headers) if context.headers else context.offset,
    )


def _read(row: bytes) -> tuple[ChangeContext, bytes]:
    change = decode_logged(VERSION, row + _NO_TIME, _OWN, None)
    return change.context, change.new or b""
