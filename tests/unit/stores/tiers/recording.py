"""Byte stores and codecs that tests of tiers look into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from thalweg.stores.bytes.contract import AnyChange, ByteView, Row, Sync
from thalweg.stores.bytes.memory import MemoryByteStore
from thalweg.stores.errors import NoListSupportError
from thalweg.stores.tiers import JsonCodec


class RecordingStore(MemoryByteStore):
    """A byte store in memory that keeps every write it was given."""

    def __init__(self, name: str = "store") -> None:
        super().__init__(name)
        self.writes: list[list[AnyChange]] = []
        self.syncs: list[Sync] = []
        self.flush_count = 0

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        taken = list(changes)
        self.writes.append(taken)
        self.syncs.append(sync)
        super().write(taken, sync=sync)

    def flush(self) -> None:
        self.flush_count += 1
        super().flush()


class UnlistableStore(RecordingStore):
    """A byte store that only knows rows by their keys."""

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        raise NoListSupportError(self.name)

    def view(self) -> ByteView:
        raise NoListSupportError(self.name)


class CountingCodec(JsonCodec[Any]):
    """JSON that counts, and fails where a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded_count = 0
        self.decoded_count = 0
        self.fails: Callable[[Any], bool] = lambda _: False

    def encode_all(self, values: list[Any]) -> bytes:
        self.encoded_count += 1
        if any(map(self.fails, values)):
            raise ValueError("a fault that a test ordered")
        return super().encode_all(values)

    def encode(self, value: Any) -> bytes:
        self.encoded_count += 1
        if self.fails(value):
            raise ValueError("a fault that a test ordered")
        return super().encode(value)

    def decode_all(self, data: bytes) -> list[Any]:
        self.decoded_count += 1
        return super().decode_all(data)
