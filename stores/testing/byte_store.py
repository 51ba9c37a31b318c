"""The conformance suite of byte stores: every guarantee of the contract, for anyone's backend.

Owns the proof of `stores.bytes.contract`, against a plain dict and with hypothesis. A
test class inherits the suite and says how to open the store; pytest does the rest::

    class TestMine(ByteStoreSuite):
        def open_store(self, directory):
            return MyByteStore("mine", directory / "rows")

What outlives a process or a loss of power is not tried here: that needs a process to kill.

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    Change,
    RangeDeletion,
    Sync,
    prefix_end,
)
from thalweg.stores.errors import StoreClosedError
from thalweg.stores.testing.byte_store_model import (
    EDGES,
    ByteStoreMachine,
    between,
    numbered,
)
from thalweg.stores.testing.key_value import readers

MANY: Final = 2_000
"""Rows of a scan that no backend reads in one go."""


class ByteStoreSuite:
    """What any byte store must do.

    Attributes:
        example_count: how many random histories are tried.
        round_count: how many batches a writer writes while threads read.
        large_count: rows of the largest batch. A slow store may take less of each.
    """

    example_count: int = 30
    round_count: int = 200
    large_count: int = 20_000

    def open_store(self, directory: Path) -> ByteStore:
        """Opens the store, if it is persistent as it was left in `directory`.

        Every call for one directory opens the same store; it is never open twice.
        """
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ByteStore]:
        """An empty store."""
        with self.open_store(tmp_path) as store:
            yield store

    # -- against a model -----------------------------------------------------------------

    def test_it_is_a_sorted_map(self) -> None:
        """Reads, writes, scans and reopenings in any order, all against a dict."""
        suite = self

        class Machine(ByteStoreMachine):
            def open_store(self, directory: Path) -> ByteStore:
                return suite.open_store(directory)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=self.example_count,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

    # -- rows ----------------------------------------------------------------------------

    def test_an_absent_key_has_no_value(self, store: ByteStore) -> None:
        """Also next to keys that are there."""
        store.put(b"a", b"1")
        assert store.get(b"") is None
        assert store.get(b"a\x00") is None
        assert store.get(b"b") is None

    def test_an_empty_value_is_a_value(self, store: ByteStore) -> None:
        """An absent row and an empty one differ, in reads and in scans."""
        store.put(b"a", b"")
        store.write([(b"b", b""), (b"c", None)])
        assert store.get(b"a") == b""
        assert store.get(b"b") == b""
        assert store.get(b"c") is None
        assert list(store.range()) == [(b"a", b""), (b"b", b"")]

    def test_the_empty_key_is_a_key(self, store: ByteStore) -> None:
        """It stands before all others."""
        store.put(b"\x00", b"2")
        store.put(b"", b"1")
        assert store.get(b"") == b"1"
        assert list(store.range()) == [(b"", b"1"), (b"\x00", b"2")]
        store.delete(b"")
        assert store.get(b"") is None

    def test_the_last_put_wins(self, store: ByteStore) -> None:
        """Of one key there is one row."""
        store.put(b"a", b"1")
        store.put(b"a", b"2")
        assert store.get(b"a") == b"2"
        assert list(store.range()) == [(b"a", b"2")]

    def test_deleting_what_is_not_there_is_no_error(self, store: ByteStore) -> None:
        """Nor does it do anything."""
        store.put(b"a", b"1")
        store.delete(b"b")
        store.write([(b"c", None)])
        assert list(store.range()) == [(b"a", b"1")]
        store.delete(b"a")
        store.delete(b"a")
        assert store.get(b"a") is None
        assert list(store.range()) == []

    def test_large_keys_and_values_come_back(self, store: ByteStore) -> None:
        """Neither has a bound that state would meet."""
        key, value = b"k" * 10_000, bytes(range(256)) * 8_192
        store.put(key, value)
        assert store.get(key) == value
        assert list(store.range()) == [(key, value)]

    # -- scans ---------------------------------------------------------------------------

    def test_keys_stand_in_the_order_of_unsigned_bytes(self, store: ByteStore) -> None:
        """A key stands before those it begins."""
        store.write([(key, b"") for key in reversed(EDGES)])
        assert [key for key, _ in store.range()] == EDGES
        assert [key for key, _ in store.range(reverse=True)] == EDGES[::-1]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_range_is_half_open(self, store: ByteStore, reverse: bool) -> None:
        """All pairs of bounds: equal, crossed, between keys, on keys, open."""
        rows = {key: key[::-1] for key in EDGES}
        store.write(rows.items())
        bounds = [None, *EDGES, b"\x00\x01", b"aa", b"\xff\xff\xff"]
        for lower in bounds:
            for upper in bounds:
                found = list(store.range(lower, upper, reverse=reverse))
                assert found == between(rows, lower, upper, reverse), (lower, upper)

    @pytest.mark.parametrize("prefix", [b"", b"a", b"\xff", b"\xff\xff", b"a\xff", b"zz"])
    def test_a_prefix_is_a_range(self, store: ByteStore, prefix: bytes) -> None:
        """`prefix_end` bounds the keys that begin with it, 0xFF or not."""
        keys = sorted({*EDGES, b"a\xff", b"a\xff\xff", b"\xff\xff\xff", b"b\x00"})
        store.write([(key, b"") for key in keys])
        found = [key for key, _ in store.range(prefix, prefix_end(prefix))]
        assert found == [key for key in keys if key.startswith(prefix)]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_long_scan_gives_every_row_once(self, store: ByteStore, reverse: bool) -> None:
        """However many rows a backend reads at a time."""
        rows = dict(numbered(MANY, b"v"))
        store.write(rows.items())
        for lower, upper in [(None, None), (b"row\x01", b"row\x05"), (b"row\x00\x03", None)]:
            expected = between(rows, lower, upper, reverse)  # type: ignore[arg-type]
            assert list(store.range(lower, upper, reverse=reverse)) == expected

    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("read_count", [0, 1, 20, MANY // 2])
    def test_a_scan_keeps_to_the_rows_of_its_opening(
        self, store: ByteStore, reverse: bool, read_count: int
    ) -> None:
        """Rows are added, changed and deleted before, behind and where it stands."""
        rows = dict(numbered(MANY, b"old"))
        store.write(rows.items())
        scan = store.range(reverse=reverse)
        found = [next(scan) for _ in range(read_count)]
        store.write([(key + b"\x00", b"new") for key in rows])
        store.write([(key, b"new") for key in list(rows)[::2]])
        store.write([(key, None) for key in list(rows)[::3]])
        store.put(b"row", b"new")
        store.delete(b"row\x04\x00")
        store.delete_range(b"row\x02", b"row\x03")
        store.delete_range(b"row\x05\x00\x00", b"s")
        store.write(numbered(MANY, b"newer"))
        found += scan
        assert found == between(rows, None, None, reverse)  # type: ignore[arg-type]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_scan_ends_at_its_limit(self, store: ByteStore, reverse: bool) -> None:
        """Be it below or above what a backend reads at a time; 0 gives no row."""
        rows = dict(numbered(MANY, b"v"))
        store.write(rows.items())
        every = between(rows, None, None, reverse)  # type: ignore[arg-type]
        with store.view() as view:
            for limit in (0, 1, 7, 8, 9, 15, 16, 17, 40, MANY - 1, MANY, MANY + 1):
                for scan in (store.range, view.range):
                    found = list(scan(reverse=reverse, limit=limit))
                    assert found == every[:limit], limit
        assert list(store.range(b"row\x01", limit=1)) == [(b"row\x01\x00", b"v")]

    # -- views ---------------------------------------------------------------------------

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_view_keeps_to_the_rows_of_its_opening(self, store: ByteStore, reverse: bool) -> None:
        """By key and in every scan, however late it is asked."""
        rows = dict(numbered(MANY, b"old"))
        store.write(rows.items())
        with store.view() as view:
            early = view.range(reverse=reverse)
            found = [next(early) for _ in range(20)]
            store.write([(key, b"new") for key in list(rows)[::2]])
            store.write([(key, None) for key in list(rows)[::3]])
            store.delete_range(b"row\x02", b"row\x03")
            store.put(b"added", b"new")
            late = view.range(b"row\x01", b"row\x05", reverse=reverse)
            # The scans take turns: neither may move the other.
            turns = [(next(early), next(late)) for _ in range(300)]
            store.delete_range(b"", None)
            found += [first for first, _ in turns]
            found += early
            assert found == between(rows, None, None, reverse)  # type: ignore[arg-type]
            assert [second for _, second in turns] + list(late) == between(
                rows,  # type: ignore[arg-type]
                b"row\x01",
                b"row\x05",
                reverse,
            )
            assert view.get(b"row\x00\x00") == b"old"
            assert view.get(b"row\x02\x00") == b"old"
            assert view.get(b"added") is None
            assert list(store.range()) == []

    def test_a_view_does_not_hold_the_writer_up(self, store: ByteStore) -> None:
        """Nor does one that was forgotten without a close."""
        store.put(b"a", b"1")
        view = store.view()
        store.view()
        store.write(numbered(MANY, b"v"))
        assert list(view.range()) == [(b"a", b"1")]
        view.close()
        assert store.get(b"a") == b"1"

    def test_a_closed_view_refuses(self, store: ByteStore) -> None:
        """And so do its scans that were not read to their end; closing again does nothing."""
        store.write(numbered(MANY, b"v"))
        view = store.view()
        scan = view.range()
        next(scan)
        view.close()
        view.close()
        with pytest.raises(StoreClosedError):
            view.get(b"a")
        with pytest.raises(StoreClosedError):
            list(view.range())
        with pytest.raises(StoreClosedError):
            list(scan)

    def test_open_scans_do_not_disturb_each_other(self, store: ByteStore) -> None:
        """Each keeps to its own moment."""
        first = dict(numbered(MANY, b"1"))
        store.write(first.items())
        scans = [(store.range(), first)]
        for number in (2, 3):
            changed = dict(numbered(MANY // number, b"%d" % number))
            store.write(changed.items())
            scans.append((store.range(), {**scans[-1][1], **changed}))
        for rows in zip(*(scan for scan, _ in scans), strict=True):
            assert len({key for key, _ in rows}) == 1
            assert [value for _, value in rows] == [then[rows[0][0]] for _, then in scans]

    def test_rows_may_be_deleted_while_they_are_scanned(self, store: ByteStore) -> None:
        """As user code does that clears a store."""
        store.write(numbered(MANY, b"v"))
        count = 0
        for key, _ in store.range():
            store.delete(key)
            count += 1
        assert count == MANY
        assert list(store.range()) == []

    def test_a_scan_can_be_given_up(self, store: ByteStore) -> None:
        """With `close`, where it has one, or by forgetting it, before or after its start."""
        store.write(numbered(MANY, b"v"))
        for read_count in (0, 1, 30):
            scan = store.range()
            for _ in range(read_count):
                next(scan)
            release = getattr(scan, "close", None)
            if release is not None:
                release()
                assert list(scan) == []
        store.range()
        next(store.range())
        store.put(b"a", b"1")
        assert next(store.range()) == (b"a", b"1")

    # -- batches -------------------------------------------------------------------------

    @pytest.mark.parametrize("sync", Sync)
    def test_a_batch_applies_in_order(self, store: ByteStore, sync: Sync) -> None:
        """The last change of one key wins, be it a value or a deletion."""
        store.put(b"c", b"before")
        changes: list[Change] = [
            (b"a", b"1"),
            (b"b", b"1"),
            (b"a", None),
            (b"c", None),
            (b"b", b"2"),
            (b"c", b"after"),
            (b"d", b"1"),
            (b"d", None),
        ]
        store.write(changes, sync=sync)
        assert list(store.range()) == [(b"b", b"2"), (b"c", b"after")]

    def test_changes_that_may_be_lost_apply_in_order(self, store: ByteStore) -> None:
        """As any do: many or few, in the order of keys or not."""
        store.put(b"a", b"before")
        store.write(iter([(b"b", b"1"), (b"a", None), (b"b", b"2"), (b"c", b"1")]), sync=Sync.NONE)
        assert list(store.range()) == [(b"b", b"2"), (b"c", b"1")]
        many = dict(numbered(5_000, b"v"))
        store.write([*many.items(), *((key, None) for key in [*many][:-1])], sync=Sync.NONE)
        store.flush()
        store.write([(b"b", None)], sync=Sync.NONE)
        assert list(store.range()) == [(b"c", b"1"), [*many.items()][-1]]

    def test_a_batch_may_be_any_iterable(self, store: ByteStore) -> None:
        """Also one that can be read once only, an empty one, and one of many rows."""
        store.write([])
        store.write({b"a": b"1"}.items())
        store.write(iter([(b"b", b"2")]))
        store.write(change for change in [(b"a", None)])
        assert list(store.range()) == [(b"b", b"2")]
        many = dict(numbered(self.large_count, b"v"))
        store.write(many.items())
        assert list(store.range(b"row")) == list(many.items())

    def test_a_batch_that_fails_changes_nothing(self, store: ByteStore) -> None:
        """Whoever makes the changes may fail at any of them."""

        def failing() -> Iterator[Change]:
            yield b"a", b"2"
            yield b"b", None
            raise RuntimeError

        store.write([(b"a", b"1"), (b"b", b"1")])
        for sync in Sync:
            with pytest.raises(RuntimeError):
                store.write(failing(), sync=sync)
        assert list(store.range()) == [(b"a", b"1"), (b"b", b"1")]

    def test_a_range_can_be_deleted(self, store: ByteStore) -> None:
        """All pairs of bounds; equal and crossed ones delete nothing."""
        rows = dict.fromkeys(EDGES, b"v")
        for lower in EDGES:
            for upper in EDGES:
                store.write(rows.items())
                store.delete_range(lower, upper)
                left = {key: b"v" for key in EDGES if not lower <= key < upper}
                assert dict(store.range()) == left, (lower, upper)
                assert all(store.get(key) == left.get(key) for key in EDGES)

    @pytest.mark.parametrize("sync", Sync)
    def test_a_write_may_delete_ranges(self, store: ByteStore, sync: Sync) -> None:
        """Between other changes, in order: what stands before it goes, what follows stays."""
        store.write([(key, b"before") for key in EDGES])
        changes: list[AnyChange] = [
            (b"a", b"1"),
            (b"x", b"1"),
            RangeDeletion(b"a", b"b"),
            (b"a\x00", b"2"),
            RangeDeletion(b"\x80", None),
            (b"\xff", b"2"),
            RangeDeletion(b"c", b"b"),
        ]
        store.write(iter(changes), sync=sync)
        expected = dict.fromkeys((b"", b"\x00", b"\x00\x00", b"\x00\xff", b"b", b"\x7f"), b"before")
        expected |= {b"a\x00": b"2", b"\xff": b"2", b"x": b"1"}
        assert dict(store.range()) == expected
        assert all(store.get(key) == expected.get(key) for key in [*EDGES, b"x"])

    def test_a_range_without_an_end_can_be_deleted(self, store: ByteStore) -> None:
        """However high its keys are, also those of the same write."""
        store.put(b"\xff\xff\xff\xff", b"1")
        store.write([(b"\xff" * 9, b"1"), RangeDeletion(b"b", None), (b"a", b"1")])
        assert list(store.range()) == [(b"a", b"1")]

    def test_a_deleted_range_can_be_written_again(self, store: ByteStore) -> None:
        """As windows expire again and again from the beginning."""
        for number in range(500):
            store.write(numbered(3, b"%d" % number, prefix=b"%04d" % number))
            store.delete_range(b"", b"%04d" % number)
            store.put(b"0000", b"again")
        assert [key[:4] for key, _ in store.range()] == [b"0000", b"0499", b"0499", b"0499"]

    def test_rows_are_counted(self, store: ByteStore) -> None:
        """A count may be wrong after rows were overwritten or deleted, not before."""
        assert store.approximate_count() == 0
        store.write(numbered(100))
        assert store.approximate_count() == 100

    # -- other threads -------------------------------------------------------------------

    def test_threads_that_get_see_batches_whole(self, store: ByteStore) -> None:
        """Of two reads the second sees no older batch, whichever row it reads."""
        rows = numbered(700, b"0")
        first, last = rows[0][0], rows[-1][0]
        store.write(rows)

        def number_of(key: bytes) -> int:
            value = store.get(key)
            assert value is not None
            return int(value)

        def read(_: Any) -> None:
            assert number_of(first) <= number_of(last) <= number_of(first)

        with readers(read):
            for number in range(1, self.round_count):
                store.write(numbered(700, b"%d" % number))

    def test_threads_that_scan_see_batches_whole(self, store: ByteStore) -> None:
        """A scan sees one batch, and a later scan no older one."""
        count = 700
        store.write(numbered(count, b"0"))

        def read(_: Any) -> None:
            rows = list(store.range())
            assert len(rows) in (count, count + 1)
            assert len({value for _, value in rows}) == 1
            falling = list(store.range(b"row", b"s", reverse=True))
            assert len({value for _, value in falling}) == 1
            assert int(falling[0][1]) >= int(rows[0][1])

        with readers(read):
            for number in range(1, self.round_count // 3):
                value = b"%d" % number
                extra = value if number % 2 else None
                store.write([*numbered(count, value), (b"row\xff\xff", extra)])

    def test_threads_that_read_never_see_half_a_deleted_range(self, store: ByteStore) -> None:
        """All rows or none."""
        count = 300
        rows = numbered(count, b"v")

        def read(_: Any) -> None:
            assert len(list(store.range(b"row", b"s"))) in (0, count)

        with readers(read):
            for _ in range(self.round_count // 3):
                store.write(rows)
                store.delete_range(b"row", b"s")

    # -- the end -------------------------------------------------------------------------

    def test_a_closed_store_refuses(self, tmp_path: Path) -> None:
        """Also whoever bound `get` before, for keys that were there and others."""
        store = self.open_store(tmp_path)
        store.put(b"a", b"1")
        get = store.get
        assert store.is_open
        store.close()
        assert not store.is_open
        for call in (
            lambda: get(b"a"),
            lambda: get(b"b"),
            lambda: store.get(b"a"),
            lambda: store.put(b"a", b"1"),
            lambda: store.delete(b"a"),
            lambda: store.write([(b"a", b"1")]),
            lambda: store.write([], sync=Sync.DISK),
            lambda: store.delete_range(b"a", b"b"),
            store.range,
            lambda: store.range(b"b", b"a", reverse=True),
            store.approximate_count,
            store.view,
            store.flush,
        ):
            with pytest.raises(StoreClosedError, match=store.name):
                call()

    def test_closing_again_does_nothing(self, tmp_path: Path) -> None:
        """Nor does leaving a `with` block afterwards."""
        with self.open_store(tmp_path) as store:
            store.close()
            store.close()
        assert not store.is_open

    @pytest.mark.parametrize("row_count", [1, 30, MANY])
    @pytest.mark.parametrize("reverse", [False, True])
    def test_scans_that_are_open_at_the_end_fail(
        self, tmp_path: Path, row_count: int, reverse: bool
    ) -> None:
        """At the latest where they would have ended; and the store can be opened again."""
        store = self.open_store(tmp_path)
        store.write(numbered(row_count, b"v"))
        unread, read = store.range(reverse=reverse), store.range(reverse=reverse)
        next(read)
        store.close()
        with self.open_store(tmp_path) as again:
            assert len(list(again.range())) == (row_count if again.persistent else 0)
            for scan in (unread, read):
                with pytest.raises(StoreClosedError):
                    list(scan)

    def test_rows_outlive_the_store_if_it_is_persistent(self, tmp_path: Path) -> None:
        """Whichever way they were written."""
        with self.open_store(tmp_path) as store:
            store.write(numbered(MANY, b"v"))
            store.put(b"a", b"1")
            store.flush()
            store.delete(b"row\x00\x00")
            store.flush()
            store.delete_range(b"row\x01", b"s")
            store.write([(b"", b"")], sync=Sync.DISK)
            rows = list(store.range())
            persistent = store.persistent
        with self.open_store(tmp_path) as store:
            assert store.persistent == persistent
            assert list(store.range()) == (rows if persistent else [])
