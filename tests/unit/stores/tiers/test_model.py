"""Tiers of every kind against plain models, over several byte stores, one of which fails.

The model keeps what was written and what waits. A call that raises wrote nothing, and what it
was given waits. When the process dies, what waits is gone and what was written is there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from thalweg.stores.bytes.contract import ByteStore, Sync
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.bytes.rocks import RocksByteStore
from thalweg.stores.bytes.sqlite import SqliteByteStore
from thalweg.stores.errors import BackendError
from thalweg.stores.testing.faulty import FaultyByteStore
from thalweg.stores.tiers import AppendLogTier, Cursor, KeyValueTier, SnapshotTier, wave

KEYS = ["", "a", "a/b", "b", "a\0", "é", "🙂"]

_keys = st.sampled_from(KEYS)
_values = st.integers(0, 9)
_everies = st.none() | st.integers(1, 4)
_debounces = st.none() | st.just(0)
_entries = st.lists(st.tuples(_keys, _values), max_size=4)


class _GivenUp(Exception):
    """What ends a wave that is to leave nothing."""


@dataclass
class Model:
    """What one tier has written, what waits, and how much it has accepted."""

    debounce_ms: int | None
    every: int | None
    written: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def accept(self, count: int) -> bool:
        before, self.count = self.count, self.count + count
        crossed = self.every is not None and any(
            number % self.every == 0 for number in range(before + 1, self.count + 1)
        )
        return crossed or self.debounce_ms is None


class Machine(RuleBasedStateMachine):
    """The three kinds of tiers on one byte store, and their models."""

    open_store: Callable[[Path], ByteStore]

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.store = self.open_store(Path(self.directory.name))
        self.last_key: str | None = None

    @initialize(
        cadences=st.tuples(*[st.tuples(_debounces, _everies)] * 3),
        sync=st.sampled_from([Sync.PROCESS, Sync.DISK]),
        mode=st.sampled_from(["append", "overwrite"]),
    )
    def open(self, cadences: Any, sync: Sync, mode: Any) -> None:
        self.sync, self.mode = sync, mode
        self.kv, self.log, self.snapshot = (Model(*cadence) for cadence in cadences)
        self.open_tiers()

    def open_tiers(self) -> None:
        def options(prefix: bytes, model: Model) -> dict[str, Any]:
            store = Namespace(self.store, prefix)
            how = {"debounce_ms": model.debounce_ms, "compact_every": model.every}
            return {"store": store, "name": "name", "sync": self.sync, **how}

        self.kv_tier = KeyValueTier[int](**options(b"k/", self.kv))
        self.log_tier = AppendLogTier[list[Any]](
            **options(b"l/", self.log), mode=self.mode, key_of=lambda entry: entry[0]
        )
        self.snapshot_tier = SnapshotTier[list[Any]](
            **options(b"s/", self.snapshot), key_of=lambda snapshot: snapshot[0]
        )
        self.tiers = (self.kv_tier, self.log_tier, self.snapshot_tier)
        self.models = (self.kv, self.log, self.snapshot)

    # -- the models' half ----------------------------------------------------------------

    def write(self, model: Model) -> None:
        """Writes what waits in a model."""
        for key, value in model.pending.items():
            if model is self.log and self.mode == "append":
                model.written[key] = model.written.get(key, []) + value
            elif value is None:
                model.written.pop(key, None)
            else:
                model.written[key] = value
        if model is self.snapshot and model.pending:
            (self.last_key,) = model.pending
        model.pending = {}

    def call(self, call: Callable[[], Any]) -> bool:
        """Makes a call that may meet the fault that was ordered; tells whether it did."""
        try:
            call()
        except BackendError:
            assert isinstance(self.store, FaultyByteStore)
            self.store.fail_at = None
            return False
        return True

    def saved(self, model: Model, count: int, call: Callable[[], None]) -> None:
        is_due = count > 0 and model.accept(count)
        if self.call(call) and is_due:
            self.write(model)

    def keep(self, entries: list[tuple[str, int]], pending: dict[str, Any]) -> None:
        for key, value in entries:
            pending.setdefault(key, []).append([key, value])

    # -- calls ---------------------------------------------------------------------------

    @rule(key=_keys, value=_values)
    def save_value(self, key: str, value: int) -> None:
        self.kv.pending[key] = value
        self.saved(self.kv, 1, lambda: self.kv_tier.save(key, value))

    @rule(entries=_entries)
    def append(self, entries: list[tuple[str, int]]) -> None:
        self.keep(entries, self.log.pending)
        given = [[key, value] for key, value in entries]
        self.saved(self.log, len(entries), lambda: self.log_tier.append_entries(given))

    @rule(key=_keys, value=_values)
    def save_snapshot(self, key: str, value: int) -> None:
        self.snapshot.pending = {key: [key, value]}
        self.saved(self.snapshot, 1, lambda: self.snapshot_tier.save([key, value]))

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        if self.call(lambda: self.kv_tier.delete(key)):
            self.kv.written.pop(key, None)
            self.kv.pending.pop(key, None)

    @rule(at=st.integers(0, 2), how=st.sampled_from(["flush", "compact"]))
    def flush(self, at: int, how: str) -> None:
        if self.call(getattr(self.tiers[at], how)):
            self.write(self.models[at])

    @rule(at=st.integers(0, 2))
    def rollback(self, at: int) -> None:
        self.tiers[at].rollback()
        self.models[at].pending = {}

    @rule(
        steps=st.lists(
            st.tuples(st.sampled_from(["save", "append", "snapshot", "delete"]), _keys, _values),
            max_size=5,
        ),
        gives_up=st.booleans(),
    )
    def save_in_a_wave(self, steps: list[tuple[str, str, int]], gives_up: bool) -> None:
        before = [copy.deepcopy(model.pending) for model in self.models]

        def work() -> None:
            with wave(*self.tiers):
                for what, key, value in steps:
                    self.step(what, key, value)
                if gives_up:
                    raise _GivenUp

        if gives_up:
            with pytest.raises(_GivenUp):
                work()
            for model, pending in zip(self.models, before, strict=True):
                model.pending = pending
        elif self.call(work):
            for model in self.models:
                self.write(model)

    def step(self, what: str, key: str, value: int) -> None:
        if what == "save":
            self.kv_tier.save(key, value)
            self.kv.pending[key] = value
            self.kv.count += 1
        elif what == "append":
            self.log_tier.append([key, value])
            self.keep([(key, value)], self.log.pending)
            self.log.count += 1
        elif what == "snapshot":
            self.snapshot_tier.save([key, value])
            self.snapshot.pending = {key: [key, value]}
            self.snapshot.count += 1
        else:
            self.kv_tier.delete(key)
            self.kv.pending[key] = None

    @precondition(lambda self: isinstance(self.store, FaultyByteStore))
    @rule(number=st.integers(0, 6))
    def order_a_fault(self, number: int) -> None:
        self.store.fail_at = self.store.operations + number

    @precondition(lambda self: self.store.persistent or isinstance(self.store, FaultyByteStore))
    @rule(mode=st.sampled_from(["append", "overwrite"]))
    def die(self, mode: Any) -> None:
        """The process, or with writes that waited for it the power of the disk."""
        self.mode = mode
        if isinstance(self.store, FaultyByteStore):
            store = self.store
            durable = self.sync is Sync.DISK
            self.store = store.after_power_loss() if durable else store.after_death()
        else:
            self.store.close()
            self.store = self.open_store(Path(self.directory.name))
        for model in self.models:
            model.pending, model.count = {}, 0
        self.last_key = None
        self.open_tiers()

    # -- looks ---------------------------------------------------------------------------

    @rule(key=_keys, prefix=_keys, size=st.none() | st.integers(0, 4), position=st.integers(0, 6))
    def look(self, key: str, prefix: str, size: int | None, position: int) -> None:
        """Reads everything; a fault may be met, and then nothing is known."""
        entries = [
            entry
            for each in sorted(self.log.written)
            if each.startswith(prefix)
            for entry in self.log.written[each]
        ]
        end = position + size if size else len(entries)

        def read() -> None:
            assert self.kv_tier.load(key) == self.kv.written.get(key)
            expected = sorted(each for each in self.kv.written if each.startswith(prefix))
            assert self.kv_tier.list(prefix) == expected
            page = self.log_tier.load_entries(Cursor(position), size, prefix)
            assert page.entries == entries[position:end]
            assert page.cursor == (Cursor(end) if end < len(entries) else None)
            last = "name" if self.last_key is None else self.last_key
            assert self.snapshot_tier.load() == self.snapshot.written.get(last)

        self.call(read)

    @invariant()
    def counts_are_equal(self) -> None:
        if hasattr(self, "tiers"):
            assert [tier.count for tier in self.tiers] == [model.count for model in self.models]

    def teardown(self) -> None:
        if isinstance(self.store, FaultyByteStore):
            self.store.fail_at = None
        if hasattr(self, "tiers"):
            for tier, model in zip(self.tiers, self.models, strict=True):
                tier.flush()
                self.write(model)
            assert {key: self.kv_tier.load(key) for key in self.kv_tier.list()} == self.kv.written
            assert self.log_tier.load_entries_all() == [
                entry for key in sorted(self.log.written) for entry in self.log.written[key]
            ]
        self.store.close()
        self.directory.cleanup()


STORES: dict[str, tuple[Callable[[Path], ByteStore], int]] = {
    "memory": (lambda _: MemoryByteStore("mine"), 60),
    "faulty": (lambda _: FaultyByteStore(), 150),
    "sqlite": (lambda path: SqliteByteStore("mine", path), 15),
    "rocks": (lambda path: RocksByteStore("mine", path), 15),
}


@pytest.mark.parametrize("kind", STORES)
def test_tiers_do_what_their_models_do(kind: str) -> None:
    make, example_count = STORES[kind]

    class Here(Machine):
        open_store = staticmethod(make)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=example_count,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
