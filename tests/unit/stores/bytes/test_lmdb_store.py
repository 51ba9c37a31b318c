"""The LMDB backend against the public suite, and what only it promises."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.stores.bytes.contract import AnyChange, ByteStore, RangeDeletion
from thalweg.stores.bytes.lmdb import LmdbByteStore
from thalweg.stores.bytes.namespace import Namespace
from thalweg.stores.errors import BackendError
from thalweg.stores.testing.byte_store import ByteStoreSuite
from thalweg.stores.testing.byte_store_model import applied, between

REPOSITORY = Path(__file__).parents[4]


class TestLmdbByteStore(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return LmdbByteStore("mine", directory / "rows")


class _Owning(Namespace):
    """A namespace that closes the store below, as the suite opens both anew."""

    def close(self) -> None:
        super().close()
        self._store.close()


class TestNamespaceOfLmdb(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        return _Owning(LmdbByteStore("below", directory / "rows"), b"mine/", name="mine")


_long_keys = st.builds(
    lambda count, rest: b"k" * count + rest, st.integers(505, 513), st.binary(max_size=3)
) | st.binary(max_size=2)
_changes = st.lists(
    st.tuples(_long_keys, st.none() | st.binary(max_size=2))
    | st.builds(RangeDeletion, _long_keys, st.none() | _long_keys),
    max_size=8,
)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)
@given(st.lists(_changes, max_size=6), st.lists(_long_keys, max_size=6))
def test_keys_longer_than_lmdb_takes_stand_in_order(
    writes: list[list[AnyChange]], bounds: list[bytes]
) -> None:
    with TemporaryDirectory() as directory, LmdbByteStore("mine", directory) as store:
        rows: dict[bytes, bytes] = {}
        for changes in writes:
            store.write(changes)
            rows = applied(rows, changes)
        assert dict(store.range()) == rows
        for lower in (None, *bounds):
            for upper in (None, *bounds):
                for reverse in (False, True):
                    found = list(store.range(lower, upper, reverse=reverse))
                    assert found == between(rows, lower, upper, reverse)
        assert all(store.get(key) == rows.get(key) for key in bounds)


def test_without_its_package_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['lmdb'] = None; import thalweg.stores.bytes.lmdb"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert "ImportError: a byte store in LMDB needs the package lmdb" in ran.stderr
    assert "pip install 'thalweg[lmdb]'" in ran.stderr


def test_the_map_grows(tmp_path: Path) -> None:
    with LmdbByteStore("mine", tmp_path, map_bytes=1 << 18) as store:
        for number in range(20):
            store.write([(b"%d" % number, bytes(100_000))])
        assert store.map_bytes >= 1 << 21
        assert len(list(store.range())) == 20
    # It is as large as its rows need when it is opened again with less.
    with LmdbByteStore("mine", tmp_path, map_bytes=1 << 18) as store:
        assert len(list(store.range())) == 20
        store.put(b"more", bytes(300_000))


def test_the_map_cannot_grow_while_a_view_is_open(tmp_path: Path) -> None:
    with LmdbByteStore("mine", tmp_path, map_bytes=1 << 18) as store:
        store.put(b"a", b"1")
        with store.view() as view:
            with pytest.raises(BackendError, match="while 1 views and scans are open; close them"):
                store.put(b"large", bytes(1 << 20))
            assert view.get(b"a") == b"1"
        store.put(b"large", bytes(1 << 20))
        assert [key for key, _ in store.range()] == [b"a", b"large"]


def test_the_bytes_of_rows(tmp_path: Path) -> None:
    with LmdbByteStore("mine", tmp_path) as store:
        store.write([(b"a", b"v"), (b"x" * 510, b"w")])
    with lmdb.open(str(tmp_path)) as environment, environment.begin() as transaction:
        rows = list(transaction.cursor())
    long = b"kx" + b"x" * 508
    packed = b"\x91\x92\xc4\x01x\xc4\x01w"
    assert rows == [
        (b"ka", zlib.crc32(b"kav").to_bytes(4, "big") + b"v"),
        (long + b"\0", zlib.crc32(long + b"\0" + packed).to_bytes(4, "big") + packed),
    ]
