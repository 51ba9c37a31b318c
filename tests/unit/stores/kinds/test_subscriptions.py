"""The store of subscriptions: a key-value store in all, with a prefix and headers on top."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thalweg.stores.builders import Backend, StoreBuilder
from thalweg.stores.kinds.subscriptions import SubscriptionSpec, SubscriptionStore
from thalweg.stores.serde import serdes
from thalweg.stores.testing.host import RecordingHost
from thalweg.stores.testing.key_value import KeyValueStoreSuite


def described(backend: Backend, *, logged: bool, value_serde: Any = serdes.bytes) -> StoreBuilder:
    return StoreBuilder(
        name="st",
        spec=SubscriptionSpec(),
        backend=backend,
        key_serde=serdes.bytes if value_serde is serdes.bytes else serdes.string,
        value_serde=value_serde,
        logged=logged,
    )


class _Suite(KeyValueStoreSuite):
    timestamped = True
    backend: Backend = "memory"

    def open_store(self, host: RecordingHost) -> Any:
        return described(self.backend, logged=self.logged, value_serde=serdes.int64).build(host)


class TestMemory(_Suite):
    examples = 50


class TestMemoryWithoutLog(_Suite):
    logged = False


class TestRocks(_Suite):
    backend = "rocks"
    examples = 10


del _Suite  # else pytest would take it for one more suite


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, host: RecordingHost) -> Iterator[SubscriptionStore]:
    store: Any = described(request.param, logged=True).build(host)
    yield store
    store.close()


@pytest.fixture
def host(tmp_path: Path) -> RecordingHost:
    return RecordingHost(tmp_path)


def test_the_rows_of_a_prefix_are_found_committed_or_not(store: SubscriptionStore) -> None:
    put = store.writer()
    put(b"a2", b"two", 1)
    put(b"b1", b"other", 1)
    store.apply_pending()
    put(b"a1", b"one", 2)
    put(b"a3", b"three", 3)
    put(b"a2", None, 4)

    assert list(store.subscribers(b"a")) == [(b"a1", b"one"), (b"a3", b"three")]
    assert list(store.subscribers(b"c")) == []


def test_the_last_prefix_of_all_has_no_end(store: SubscriptionStore) -> None:
    store.writer()(b"\xff\xff", b"value", 1)

    assert list(store.subscribers(b"\xff")) == [(b"\xff\xff", b"value")]


def test_the_changelog_has_the_headers_of_the_record(
    store: SubscriptionStore, host: RecordingHost
) -> None:
    host.set_record(5, headers=[("h", b"1")])
    store.writer()(b"k", b"v", 5)
    host.set_record(6)
    store.writer()(b"k", None, 6)

    assert [change[1:] for change in host.changes] == [
        (b"k", b"v", 5, [("h", b"1")]),
        (b"k", None, 6, None),
    ]
