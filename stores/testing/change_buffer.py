"""The conformance suite of buffers of changes: every kind of serde against a dict.

Owns what any buffer must do about places, prior values, bounds and its changelog. A test class
inherits the suite and says how to open the store, as told in `stores.testing.key_value`.

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.stores.record import HeaderList
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.updates import UNREAD

Operation: TypeAlias = tuple[Any, ...]

_keys = st.sampled_from(["", "a", "a\0", "ab", "b", "é"])
_times = st.integers(0, 6)
_values = st.none() | st.integers(-2, 2)
_headers = st.lists(st.tuples(st.sampled_from("hi"), st.none() | st.binary(max_size=2)), max_size=2)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), _keys, _times, _values, _headers),
        st.tuples(st.just("hold"), _keys, _times, _values, _headers),
        st.tuples(st.just("let_go"), _times),
        st.tuples(st.just("let_go_beyond"), st.integers(0, 3)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("crash")),
    ),
    max_size=30,
)


class ChangeBufferSuite:
    """What a buffer of changes of `serdes.string` to `serdes.int64` must do.

    Attributes:
        logged: whether it logs its changes.
        keeps_headers: whether it keeps values with their headers.
        examples: how many sequences of operations are tried against the model.
    """

    logged: bool = True
    keeps_headers: bool = False
    examples: int = 100

    def open_store(self, host: RecordingHost) -> Any:
        """Opens an empty buffer."""
        raise NotImplementedError

    def test_it_holds_the_last_change_of_each_key_in_the_order_of_time(
        self, tmp_path: Path
    ) -> None:
        """Holds, lets go, commits and restores, all against a dict."""

        @settings(max_examples=self.examples, deadline=None)
        @given(_operations)
        def behaves(operations: list[Operation]) -> None:
            run = _Run(self, tmp_path)
            for name, *arguments in operations:
                getattr(run, name)(*arguments)
                run.check()

        behaves()


class _Held:
    """A change as the model has it."""

    def __init__(self, time: int, prior: int | None) -> None:
        self.time = time
        self.prior = prior
        self.old: int | None = None
        self.new: int | None = None
        self.timestamp = -1
        self.headers: HeaderList = []


class _Run:
    """A store beside its model."""

    def __init__(self, suite: ChangeBufferSuite, directory: Path) -> None:
        self.suite = suite
        self.host = RecordingHost(directory)
        self.held: dict[str, _Held] = {}
        self.values: dict[str, int] = {}
        self.committed: list[Operation] = []
        self.offset = 0
        self.open()

    def open(self) -> None:
        self.store = self.suite.open_store(self.host)
        self.deferred = self.store.deferred(drops_deletions=False, counts_bytes=True)

    def hold(self, key: str, time: int, new: int | None, headers: HeaderList) -> None:
        old, self.offset = self.values.get(key), self.offset + 1
        self.host.set_record(time, offset=self.offset, headers=headers)
        self.deferred.hold(time, key, new, old, time)
        one = self.held.setdefault(key, _Held(time, old))
        one.old, one.new, one.timestamp, one.headers = old, new, time, headers
        if new is None:
            self.values.pop(key, None)
        else:
            self.values[key] = new

    def ordered(self) -> list[str]:
        return sorted(self.held, key=lambda key: (self.held[key].time, key.encode()))

    def let_go(self, time: int) -> None:
        due = [key for key in self.ordered() if self.held[key].time <= time]
        self._let_go(due, lambda forward: self.deferred.let_go(time, forward))

    def let_go_beyond(self, most: int) -> None:
        due = self.ordered()[: max(0, len(self.held) - most)]
        deferred = self.deferred
        self._let_go(
            due, lambda forward: deferred.let_go_while(lambda: deferred.extent()[0] > most, forward)
        )

    def _let_go(self, due: list[str], call: Any) -> None:
        current, found = self.host.current, []
        before = current.offset()

        def forward(key: str, new: int | None, old: int | None, timestamp: int) -> None:
            assert self.store.prior(key) is not UNREAD, "it is held until it was forwarded"
            assert current.timestamp == timestamp
            found.append((key, new, old, timestamp, current.headers() or []))

        call(forward)
        assert current.offset() == before
        expected = []
        for key in due:
            one = self.held.pop(key)
            expected.append((key, one.new, one.old, one.timestamp, one.headers))
        assert found == expected

    def commit(self) -> None:
        self.store.flush_cache()
        self.store.apply_pending()

    def crash(self) -> None:
        self.commit()
        extent, dump = self.deferred.extent(), self.store.dump()
        self.store.close()
        assert not self.store.is_open
        self.open()
        if self.suite.logged:
            self.store.restore(self.host.restore_records())
            assert self.store.dump() == dump
            assert self.deferred.extent() == extent
        else:
            assert self.host.changes == []
            self.held.clear()

    def check(self) -> None:
        for key in ("", "a", "a\0", "ab", "b", "é"):
            found = self.store.prior(key)
            if key not in self.held:
                assert found is UNREAD
            else:
                prior = self.held[key].prior
                assert (None if found is None else found[0]) == prior
        _, entries = self.store.dump()
        assert [(one["time"], bytes.fromhex(one["key"]).decode()) for one in entries] == [
            (self.held[key].time, key) for key in self.ordered()
        ]
        count, size_bytes = self.deferred.extent()
        assert count == len(self.held) == self.store.buffered_count
        assert size_bytes == self.store.buffered_bytes
        if not self.suite.keeps_headers:
            assert size_bytes == sum(map(self._size_of, self.held))

    def _size_of(self, key: str) -> int:
        one = self.held[key]
        size = 8 + len(key.encode()) + 20 + len("input")
        size += sum(len(name) + len(value or b"") for name, value in one.headers)
        size += 0 if one.prior is None else 8
        size += 0 if one.old is None or one.old == one.prior else 8
        return size + (0 if one.new is None else 8)
