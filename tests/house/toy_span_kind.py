"""A toy store kind and the operator that fills it: runs of one key without a long pause.

It is what a stranger would write for a kind that the house does not have: one file, only the faces
that `stores.kinds` and `topology` document. Rows are found by (key, first, last); a run grows, so
its row moves. What it is not: a session store (no time-out of rows, no merging of more than two).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from thalweg import KGroupedStream, KTable, serdes
from thalweg.stores.api import CacheBudget, Dump, RestoreRecord, StoreHost, StoreIterator
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.bytes.contract import ByteStore, prefix_end
from thalweg.stores.cache.cached_store import CachedStore
from thalweg.stores.changelog import key_value_write
from thalweg.stores.codec import RowCodec
from thalweg.stores.formats import pack_int64
from thalweg.stores.kinds.typed import TypedStore
from thalweg.stores.pairs import StoredPairs
from thalweg.stores.row_format import PLAIN, RowFormat
from thalweg.stores.rows.contract import Row, RowStore
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.updates import Pair
from thalweg.streams.queries.composite import Composite, Unwrap
from thalweg.streams.queries.kinds.kind import (
    ROWS,
    Faces,
    RowsAsked,
    StoreKind,
    Target,
    given_only,
)
from thalweg.streams.queries.kinds.known import add_kind
from thalweg.streams.queries.questions import Given, Parameters, Question, Shape
from thalweg.streams.queries.rows import Row as AnswerRow
from thalweg.topology.dsl.table_logic import AggregateLogic
from thalweg.topology.operators.operator import NodeScope, Process, TableMaker

Run: TypeAlias = tuple[Any, int, int]
"""(key, time of the first record, time of the last), in ms."""

_TIMES_BYTES = 16


class RunSpan(NamedTuple):
    """Runs whose stored keys begin with `prefix` and that end at or after `from_ms`."""

    prefix: bytes
    from_ms: int = 0
    is_one_key: bool = False


EVERY_RUN = RunSpan(b"")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Values by key, first and last time."""

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "run"

    @property
    def function(self) -> str:
        """The function that describes such a store, for messages."""
        return "run_store"

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row: nothing, the last time is in the key."""
        return PLAIN

    def with_timestamps(self) -> RunSpec:
        """Returns itself."""
        return self

    def with_headers(self) -> RunSpec:
        """Returns itself."""
        return self

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs."""
        return {"cleanup.policy": "compact"}

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> RunStore:
        """Stacks the layers of a store."""
        pairs = RunPairs(PendingByteStore(open_bytes()), codec)
        return RunStore(pairs, host, None if cache is None else CachedStore(pairs, cache))


def run_store(name: str) -> StoreBuilder:
    """Describes a store of counts by run."""
    return StoreBuilder(
        name=name, spec=RunSpec(), key_serde=serdes.string, value_serde=serdes.int64, cached=True
    )


class RunPairs(StoredPairs[Run, RunSpan]):
    """Rows by key, last time and first time, in this order."""

    def __init__(self, rows: RowStore, codec: RowCodec) -> None:
        super().__init__(rows, codec)
        self.write_raw = key_value_write(
            rows.put, codec.log, codec.current, row_format=codec.row_format
        )

    def entry_key(self, key: Run) -> Hashable:
        """Returns what a cache finds a row by."""
        if self.keeps_key_decoded:
            return key
        return self.codec.encode_key(key[0]), key[1], key[2]

    def stored_key(self, entry_key: Any) -> bytes:
        """Returns where a row stands."""
        key, first_ms, last_ms = entry_key
        raw_key = self.codec.encode_key(key) if self.keeps_key_decoded else key
        return raw_key + pack_int64(last_ms) + pack_int64(first_ms)

    def key_of(self, entry_key: Any) -> Run:
        """Returns the run of a cached row."""
        key, first_ms, last_ms = entry_key
        return (key if self.keeps_key_decoded else self.codec.decode_key(key)), first_ms, last_ms

    def run_of(self, stored_key: bytes) -> Run:
        """Returns the run of a row by where it stands."""
        times = stored_key[-_TIMES_BYTES:]
        key = self.codec.decode_key(stored_key[:-_TIMES_BYTES])
        return key, int.from_bytes(times[8:], "big"), int.from_bytes(times[:8], "big")

    def read(self, key: Run) -> Pair | None:
        """Reads the row of a run."""
        self.gets += 1
        return self.peek(key)

    def read_raw(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row by where it stands."""
        self.gets += 1
        row = self.rows.get(stored_key)
        return None if row is None else self.codec.unpack(row)

    def peek(self, key: Run) -> Pair | None:
        """Reads as `read` and changes nothing."""
        row = self.rows.get(self.stored_key(self.entry_key(key)))
        return None if row is None else self.codec.unpack(row)

    def put(self, key: Run, value: Any, timestamp: int) -> None:
        """Writes a row, None deletes it."""
        self.puts += 1
        encoded = None if value is None else self.codec.encode_value(value)
        entry_key = self.entry_key(key)
        self.write_raw(entry_key, self.stored_key(entry_key), encoded, timestamp)

    def ranges(
        self, span: RunSpan, first_from: Callable[[bytes], bytes | None]
    ) -> Iterable[tuple[bytes | None, bytes | None]]:
        """Returns the one range of the prefix."""
        return ((span.prefix, prefix_end(span.prefix)),)

    def covers(self, span: RunSpan, stored_key: bytes) -> bool:
        """Tells whether a row is one of the span's."""
        if span.is_one_key and len(stored_key) != len(span.prefix) + _TIMES_BYTES:
            return False
        return int.from_bytes(stored_key[-_TIMES_BYTES:-8], "big") >= span.from_ms

    def scan(self, span: RunSpan, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans rows in the order of their bytes."""
        scan = self.rows.snapshot if shared else self.rows.scan
        rows = scan(span.prefix, prefix_end(span.prefix), reverse)
        return (row for row in rows if self.covers(span, row[0]))


class RunStore(TypedStore[Run, RunSpan]):
    """What a task and its operators call."""

    _stored: RunPairs

    def runs(
        self, key: Any = None, from_ms: int = 0, *, shared: bool = False
    ) -> StoreIterator[tuple[Run, Any]]:
        """Scans the runs of a key, or of all, that end at or after a time."""
        span = EVERY_RUN
        if key is not None:
            span = RunSpan(self.codec.encode_key(key), from_ms, is_one_key=True)
        rows = self.pairs.scan(span, shared=shared)
        return StoreIterator(self._shown(rows)) if shared else self.counted(self._shown(rows))

    def _shown(self, rows: Iterator[Row]) -> Generator[tuple[Run, Any], None, None]:
        for stored_key, row in rows:
            yield self._stored.run_of(stored_key), self.codec.unpack(row)[0]

    def read_row(self, key: Run) -> Pair | None:
        """Reads the newest row."""
        return self.pairs.read_row(key)

    def forwarded_row(self, key: Run) -> Pair | None:
        """Reads the row that was forwarded last."""
        return self.pairs.forwarded_row(key)

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend."""
        self.rows.restore(self.codec.row_format.restored_by_key(batch))

    def read_only(self) -> RunStore:
        """Returns itself; other threads ask with `shared=True`."""
        return self

    def dump(self) -> Dump:
        """Returns kind and rows below the cache."""
        rows = self._stored.scan(EVERY_RUN)
        return "run", [{"key": key.hex(), "value": value.hex()} for key, value in rows]


class Runs(Composite[RunStore]):
    """Runs of all tasks of a process, for any thread."""

    def of(self, key: Any = None) -> StoreIterator[tuple[Run, Any]]:
        """Scans the runs of a key, or of all."""
        return self.rows(lambda face: face.runs(key, shared=True))


class RunKind(StoreKind):
    """Run stores as they are asked."""

    names = ("run",)
    family = "run"
    noun = "run of key"
    times = ("first", "last")

    def __init__(self) -> None:
        self.forms = {ROWS: self._question}

    def face(self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap) -> Runs:
        """Returns the read-only face over all tasks."""
        return Runs(builder.name, faces, unwrap)

    def target(self, asked: RowsAsked) -> Target:
        """Returns the question that asks for rows."""
        return Target(ROWS, None, given_only(("key", asked.key)))

    def parts(self, row: Mapping[str, Any]) -> tuple[object, Sequence[int | None]]:
        """Returns the key of a row in JSON, and its times."""
        return row["key"], (row["first"], row["last"])

    @staticmethod
    def _question(
        builder: StoreBuilder, path: str, parameters: Parameters, _key: str | None
    ) -> Question:
        given = Given(builder, path, parameters, ("key",))
        key = given.key("key")
        serde = builder.key_serde
        assert serde is not None
        encode = serde.serializer(builder.name)

        def rows(store: Runs) -> Iterator[AnswerRow]:
            with store.of(key) as found:
                for run, count in found:
                    times = {"first": run[1], "last": run[2]}
                    yield AnswerRow(encode(run[0]) + pack_int64(run[1]), run[0], count, times)

        return given.question(
            lambda parts: parts.page(rows, given.paging), Shape.PAGE, paging=given.paging
        )


add_kind(RunKind())


@dataclass(frozen=True, eq=False)
class CountRuns(TableMaker):
    """Counts the records of each run; a pause longer than `gap_ms` begins another."""

    store_name: str
    gap_ms: int = 0

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        store = scope.task.store(self.store_name)
        assert isinstance(store, RunStore)
        updates = store.updates(scope.forward, send_old=self.tells_old_values)
        write, runs, gap_ms = updates.write, store.runs, self.gap_ms
        drop, failed = scope.drop, scope.failed

        def count(key: Any, value: Any, timestamp: int) -> None:
            if key is None or value is None:
                drop(key, value, timestamp)
                return
            try:
                grown, total = (key, timestamp, timestamp), 1
                for run, counted in list(runs(key, timestamp - gap_ms)):
                    if run[1] - gap_ms <= timestamp:
                        if run != grown:
                            write(run, None, counted, timestamp)
                        grown = (key, min(run[1], grown[1]), max(run[2], grown[2]))
                        total += counted
                write(grown, total, None, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp)

        return count


def count_runs(grouped: KGroupedStream[str, Any], gap_ms: int, name: str) -> KTable[Run, int]:
    """Puts the operator into a topology."""
    grouping = grouped.grouping
    node = grouping.place.names.new_name("TOY-RUNS-")
    place = grouping.aggregate(node, CountRuns(name, gap_ms=gap_ms), run_store(name))
    logic = AggregateLogic(place.graph.facts, node, name)
    return KTable(place, None, serdes.int64, name, logic)
