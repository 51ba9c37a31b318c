"""Buffers of changes for `suppress`: one change for each key, in the order of time.

Owns the description of a buffer (`ChangeBufferSpec`), the order in which changes leave it, how its
size is counted, its changelog and how that is restored. The buffer is in memory only. It must not
know when changes are due.

The first change of a key determines its time in the buffer. A later change of the key replaces the
value and keeps this time. The buffer also keeps the prior value: the value of the key before the
first buffered change. Readers of the table behind the buffer see the prior value until the change
is forwarded.

The changelog is written when the task commits: a row for each key that changed and is still in the
buffer, and a deletion for each key that left it, in the order of the JVM's hash set.

Source: JVM `InMemoryTimeOrderedKeyValueChangeBuffer`; kafka-streams A14, D7.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Any, Final

from thalweg.stores.api import CacheBudget, Dump, RestoreRecord, StoreHost, TaskStore
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.change_formats import (
    VERSION,
    VERSION_HEADER,
    ChangeContext,
    decode_logged,
    encode_buffered,
    encode_logged,
)
from thalweg.stores.codec import RowCodec
from thalweg.stores.formats import decode_value_and_timestamp
from thalweg.stores.hash_order import HashOrder
from thalweg.stores.header_formats import prefix_length, split_row, timed_prefix
from thalweg.stores.record import HeaderList, Origin, headers_of, offset_of
from thalweg.stores.row_format import NO_TIMESTAMP, PLAIN, RowFormat
from thalweg.stores.updates import (
    UNREAD,
    ChangeBuffer,
    Deferred,
    Forward,
    Pair,
    Unread,
    Updates,
)

_PRIOR_HEADER: Final = "vh.prior"
_OLD_HEADER: Final = "vh.old"
_PLACE_BYTES: Final = 8
"""What the JVM counts for a key's place."""


@dataclass(frozen=True, slots=True)
class ChangeBufferSpec:
    """A buffer of a table's changes.

    Attributes:
        keeps_headers: whether each value is kept with the headers of its record (KIP-1285).
    """

    keeps_headers: bool = False

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "suppress-buffer"

    @property
    def function(self) -> str:
        """What describes such a store, for messages."""
        return "suppress"

    @property
    def row_format(self) -> RowFormat:
        """What stands beside a value in a row, as users would see it: nothing."""
        return PLAIN

    def with_timestamps(self) -> ChangeBufferSpec:
        """Returns the same: its rows have no such form."""
        return self

    def with_headers(self) -> ChangeBufferSpec:
        """Returns the same, with values that are kept with their headers."""
        return replace(self, keeps_headers=True)

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names."""
        return {"cleanup.policy": "compact"}

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TypedChangeBuffer:
        """Makes an empty buffer: it needs neither a cache nor a byte store."""
        return TypedChangeBuffer(codec, host, keeps_headers=self.keeps_headers)


class HeldChange:
    """The change of one key.

    `prior`, `old` and `new` are bytes, with headers and timestamp in front where the buffer keeps
    them; `prior` is `old` where both are equal. `key`, `old_value` and `new_value` are decoded, or
    `UNREAD`.
    """

    __slots__ = (
        "is_held",
        "key",
        "new",
        "new_value",
        "old",
        "old_value",
        "origin",
        "partition",
        "prior",
        "raw_key",
        "time",
        "timestamp",
        "topic",
    )

    def __init__(self, time: int, raw_key: bytes, key: Any, prior: bytes | None) -> None:
        self.time = time
        self.raw_key = raw_key
        self.key = key
        self.prior = prior
        self.is_held = True
        # All else is set by whoever makes one, right away.
        self.old: bytes | None
        self.new: bytes | None
        self.old_value: Any
        self.new_value: Any
        self.timestamp: int
        self.topic: str | None
        self.partition: int
        self.origin: Origin

    def context(self) -> ChangeContext:
        """Returns where the change came from."""
        origin = self.origin
        headers: HeaderList = headers_of(origin) or []
        return ChangeContext(self.timestamp, offset_of(origin), self.topic, self.partition, headers)

    def size_bytes(self) -> int:
        """Returns how much memory the JVM counts for it."""
        prior, old, new = self.prior, self.old, self.new
        size = _PLACE_BYTES + len(self.raw_key) + self.context().size_bytes
        size += 0 if prior is None else len(prior)
        size += 0 if old is None or old is prior else len(old)
        return size + (0 if new is None else len(new))


class TypedChangeBuffer(TaskStore, ChangeBuffer):
    """A buffer of changes, in the memory of its task.

    One worker uses it; `read_only()` faces may count from other threads meanwhile.

    Args:
        codec: encodes keys and values.
        host: the task it lives in.
        keeps_headers: whether each value is kept with headers and timestamp.
    """

    def __init__(self, codec: RowCodec, host: StoreHost, *, keeps_headers: bool) -> None:
        self.codec = codec
        self.builder = codec.builder
        self.host = host
        self.puts_total = 0
        self.emitted_total = 0
        self._keeps_headers = keeps_headers
        # Keys are found decoded where that is safe, and handed on so where nobody can change them.
        self._is_keyable = codec.key_serde.keyable
        self._keeps_key = codec.key_serde.keyable or codec.key_serde.immutable
        self._keeps_values = codec.value_serde.immutable
        self._by_key: dict[Hashable, HeldChange] = {}
        self._queue: list[tuple[int, bytes, HeldChange]] = []
        self._dirty: dict[bytes, HeldChange] = {}
        self._dirty_order = HashOrder()
        self._counts_bytes = False
        self._size_bytes = 0
        self._is_open = True

    # -- what the operator uses ----------------------------------------------------------

    def deferred(self, *, drops_deletions: bool, counts_bytes: bool) -> Deferred:
        """Returns what the one operator uses that fills the buffer."""
        self._counts_bytes = counts_bytes
        self._size_bytes = self._counted()
        queue, let_go_while = self._queue, self._bind_let_go_while()

        def let_go(time: int, forward: Forward) -> None:
            if queue and queue[0][0] <= time:
                let_go_while(lambda: queue[0][0] <= time, forward, drops_deletions)

        return Deferred(
            self._bind_hold(),
            let_go,
            lambda condition, forward: let_go_while(condition, forward, drops_deletions),
            lambda: (len(self._by_key), self._size_bytes),
        )

    def prior(self, key: Any) -> Pair | Unread | None:
        """Returns the row of a key that was let go last, `UNREAD` for a key that is not held."""
        held = self._by_key.get(key if self._is_keyable else self.codec.encode_key(key))
        if held is None:
            return UNREAD
        raw = held.prior
        if raw is None:
            return None
        if not self._keeps_headers:
            return self.codec.decode_value(raw), NO_TIMESTAMP
        raw, timestamp = decode_value_and_timestamp(raw[prefix_length(raw) :])
        return self.codec.decode_value(raw), timestamp

    def _bind_hold(self) -> Callable[[int, Any, Any, Any, int], None]:
        codec, current, by_key, queue = self.codec, self.codec.current, self._by_key, self._queue
        encode_key, encode_value = codec.encode_key, codec.encode_value
        is_keyable, keeps_key, keeps_values = self._is_keyable, self._keeps_key, self._keeps_values
        keeps_headers, is_logged, dirty = self._keeps_headers, codec.log is not None, self._dirty

        def hold(time: int, key: Any, new: Any, old: Any, timestamp: int) -> None:
            self.puts_total += 1
            entry_key = key if is_keyable else encode_key(key)
            held = by_key.get(entry_key)
            before = 0
            if held is None:
                raw_key = encode_key(key) if is_keyable else entry_key
            elif self._counts_bytes:
                before = held.size_bytes()
            if old is None:
                raw_old = None
            elif held is None or held.new is None:
                raw_old = encode_value(old)
                if keeps_headers:
                    raw_old = timed_prefix(None, NO_TIMESTAMP) + raw_old
            elif old is held.new_value:
                raw_old = held.new  # the value that came last: it is encoded already
            else:
                raw_old = encode_value(old)
                if keeps_headers:
                    raw_old = split_row(held.new)[0] + raw_old
            raw_new = None if new is None else encode_value(new)
            if keeps_headers and raw_new is not None:
                raw_new = timed_prefix(headers_of(current.origin), timestamp) + raw_new
            # Nothing is changed before here: what cannot be written leaves the buffer as it was.
            if held is None:
                held = HeldChange(time, raw_key, key if keeps_key else UNREAD, raw_old)
                by_key[entry_key] = held
                heappush(queue, (time, raw_key, held))
            elif held.prior == raw_old:
                held.prior = raw_old
            held.old, held.new = raw_old, raw_new
            held.old_value, held.new_value = (old, new) if keeps_values else (UNREAD, UNREAD)
            held.timestamp, held.topic = timestamp, current.topic
            held.partition, held.origin = current.partition, current.origin
            if is_logged:
                dirty[held.raw_key] = held
            if self._counts_bytes:
                self._size_bytes += held.size_bytes() - before

        return hold

    def _bind_let_go_while(self) -> Callable[[Callable[[], bool], Forward, bool], None]:
        codec, current, by_key, queue = self.codec, self.codec.current, self._by_key, self._queue
        is_keyable, is_logged, dirty = self._is_keyable, codec.log is not None, self._dirty
        decode_key, value_of = codec.decode_key, self._value

        def let_go_while(
            condition: Callable[[], bool], forward: Forward, drops_deletions: bool
        ) -> None:
            before = current.topic, current.partition, current.origin, current.timestamp
            run, current.run = current.run, ()
            try:
                while queue and condition():
                    item = queue[0]
                    held = item[2]
                    raw_key, new, old = held.raw_key, held.new_value, held.old_value
                    if new is UNREAD:
                        new, old = value_of(held.new), value_of(held.old)
                    key = decode_key(raw_key) if held.key is UNREAD else held.key
                    if new is not None or not drops_deletions:
                        current.topic, current.partition = held.topic, held.partition
                        current.origin, current.timestamp = held.origin, held.timestamp
                        forward(key, new, old, held.timestamp)
                        self.emitted_total += 1
                    if queue[0] is item:
                        heappop(queue)
                    else:  # what was forwarded came back as an earlier change
                        queue.remove(item)
                        heapify(queue)
                    held.is_held = False
                    del by_key[key if is_keyable else raw_key]
                    if is_logged:
                        dirty[raw_key] = held
                    if self._counts_bytes:
                        self._size_bytes -= held.size_bytes()
            finally:
                current.topic, current.partition, current.origin, current.timestamp = before
                current.run = run

        return let_go_while

    def _value(self, raw: bytes | None) -> Any:
        """Returns a value, decoded."""
        if raw is None:
            return None
        return self.codec.decode_value(split_row(raw)[1] if self._keeps_headers else raw)

    def _counted(self) -> int:
        return sum(held.size_bytes() for held in list(self._by_key.values()))

    # -- what operators of other kinds would use -----------------------------------------

    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Any]:
        """Refuses: rows of a buffer are no table's.

        Raises:
            TypeError: always.
        """
        message = f"store '{self.name}' is a buffer of suppress(): it cannot keep another table"
        raise TypeError(message)

    def read_row(self, key: Any) -> Pair | None:
        """Reads the value of a key that was let go last, None where the key is not held."""
        pair = self.prior(key)
        return None if isinstance(pair, Unread) else pair

    def forwarded_row(self, key: Any) -> Pair | None:
        """Reads as `read_row`."""
        return self.read_row(key)

    # -- what its task uses --------------------------------------------------------------

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self.codec.name

    def __repr__(self) -> str:
        state = "" if self._is_open else ", closed"
        return f"<{self.builder.kind} store {self.name!r} of task {self.host.task_id}{state}>"

    @property
    def persistent(self) -> bool:
        """Whether the store's bytes outlive the process: no."""
        return False

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._is_open

    @property
    def uncached(self) -> TaskStore:
        """The buffer itself, which has no cache."""
        return self

    @property
    def is_cached(self) -> bool:
        """Whether updates wait in a cache for a flush: no."""
        return False

    @property
    def has_unflushed(self) -> bool:
        """Whether changes are not in the changelog yet."""
        return bool(self._dirty)

    def flush_cache(self) -> None:
        """Writes the changelog: what is held, and what was let go since the last time."""
        log, dirty = self.codec.log, self._dirty
        if log is None or not dirty:
            return
        for raw_key in self._dirty_order.ordered(dirty):
            held = dirty[raw_key]
            if held.is_held:
                log(raw_key, *self._logged(held))
            else:
                log(raw_key, None, None, None)
        dirty.clear()

    def _logged(self, held: HeldChange) -> tuple[bytes, None, HeaderList]:
        """Returns value, timestamp and headers of a held change's row in the changelog."""
        prior, old, new = held.prior, held.old, held.new
        headers: HeaderList = [(VERSION_HEADER, VERSION)]
        if self._keeps_headers:
            if prior is not None and prior is not old:
                headers.append((_PRIOR_HEADER, split_row(prior)[0]))
            if old is not None:
                headers.append((_OLD_HEADER, split_row(old)[0]))
            prior, old, new = (
                None if raw is None else split_row(raw)[1] for raw in (prior, old, new)
            )
        # As in the JVM the record has no timestamp: the log gives it one.
        return (
            encode_logged(encode_buffered(held.context(), prior, old, new), held.time),
            None,
            headers,
        )

    def apply_pending(self, *, durable: bool = False, note: bytes | None = None) -> None:
        """Does nothing: what is in memory does not last."""

    def prepare(self, note: bytes) -> None:
        """Does nothing: what is in memory does not last."""

    def prepared(self) -> bytes | None:
        """Returns None: nothing was prepared."""
        return None

    def settle(self, *, is_committed: bool) -> None:
        """Does nothing: nothing was prepared."""

    def note(self) -> bytes | None:
        """Returns None: nothing was noted."""
        return None

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Takes in records of the changelog, in its order.

        Raises:
            DeserializationError: one of them is no buffered change.
        """
        for record in batch:
            raw_key, value = record[1], record[2]
            if raw_key is None:
                continue
            entry_key: Hashable = raw_key
            if self._is_keyable:
                entry_key = self.codec.decode_key(raw_key)
            if value is None:
                found = self._by_key.pop(entry_key, None)
                if found is not None:
                    found.is_held = False
            else:
                self._restore_one(entry_key, record)
        # In place: the operator's functions are bound to it.
        self._queue[:] = [(held.time, held.raw_key, held) for held in self._by_key.values()]
        heapify(self._queue)
        self._size_bytes = self._counted() if self._counts_bytes else 0

    def _restore_one(self, entry_key: Hashable, record: RestoreRecord) -> None:
        timestamp, raw_key, value, origin = record
        assert raw_key is not None
        assert value is not None
        codec, held = self.codec, self._by_key.get(entry_key)
        headers: HeaderList = headers_of(origin) or []
        given = dict(headers)  # of one name the last counts
        prior = None if held is None else held.prior
        if prior is not None and self._keeps_headers:
            prior = split_row(prior)[1]
        partition = int(self.host.task_id.rpartition("_")[2])
        own = ChangeContext(timestamp, offset_of(origin), codec.topic, partition, headers)
        version = (given[VERSION_HEADER] or b"") if VERSION_HEADER in given else None
        change = decode_logged(version, value, own, prior)
        if held is None:
            key = codec.decode_key(raw_key) if self._keeps_key else UNREAD
            held = self._by_key[entry_key] = HeldChange(change.time, raw_key, key, None)
        # The JVM keeps the first place. That is wrong of a key that was let go and came back between
        # two commits: its deletion is not in the changelog.
        held.time = change.time
        context = change.context
        held.timestamp, held.topic, held.partition = (
            context.timestamp,
            context.topic,
            context.partition,
        )
        held.origin = (context.offset, context.headers) if context.headers else context.offset
        held.prior, held.old, held.new = self._with_headers(
            change.prior, change.old, change.new, given, context
        )
        if held.prior == held.old:
            held.prior = held.old
        held.old_value = held.new_value = UNREAD

    def _with_headers(
        self,
        prior: bytes | None,
        old: bytes | None,
        new: bytes | None,
        given: dict[str, bytes | None],
        context: ChangeContext,
    ) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Returns restored values as the buffer keeps them."""
        if not self._keeps_headers:
            return prior, old, new
        unknown = timed_prefix(None, context.timestamp)

        def part(raw: bytes | None, name: str) -> bytes | None:
            return None if raw is None else (given.get(name) or unknown) + raw

        kept_old = part(old, _OLD_HEADER)
        # A prior value that is the old one has no header of its own, unless its headers differ.
        is_same = prior == old and _PRIOR_HEADER not in given
        kept_prior = kept_old if is_same else part(prior, _PRIOR_HEADER)
        if new is not None:
            new = timed_prefix(context.headers, context.timestamp) + new
        return kept_prior, kept_old, new

    def close(self) -> None:
        """Forgets what is held."""
        self._is_open = False
        self._by_key.clear()
        self._queue.clear()
        self._dirty.clear()
        self._size_bytes = 0

    # -- what others ask -----------------------------------------------------------------

    @property
    def buffered_count(self) -> int:
        """How many changes are held; any thread may ask."""
        return len(self._by_key)

    @property
    def buffered_bytes(self) -> int:
        """How many bytes the JVM counts for them; any thread may ask."""
        return self._size_bytes if self._counts_bytes else self._counted()

    def read_only(self) -> ChangeBufferFace:
        """Returns a face that any thread may use while the worker writes."""
        return ChangeBufferFace(self)

    def dump(self) -> Dump:
        """Returns kind and rows, in the order in which they are let go; bytes as hex."""
        return (
            self.builder.kind,
            [
                {
                    "time": time,
                    "key": raw_key.hex(),
                    "value": encode_buffered(held.context(), held.prior, held.old, held.new).hex(),
                }
                for time, raw_key, held in sorted(self._queue, key=lambda item: item[:2])
            ],
        )


class ChangeBufferFace:
    """What other threads may ask of one task's buffer: its rows are not to be queried."""

    def __init__(self, store: TypedChangeBuffer) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self._store.name

    def approximate_num_entries(self) -> int:
        """Returns how many changes are held."""
        return self._store.buffered_count
