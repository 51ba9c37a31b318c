"""Subscriptions: the store of a foreign-key join on its right side.

Owns what this kind has more than a timestamped key-value store of bytes: it finds the subscribers
of a right row in their order, and its changelog carries the headers of the record in hand, as the
JVM's does since 4.3. Rows on disk have none. It has no cache. What its rows say stands in
`stores.foreign_keys`.

Source: JVM `SubscriptionStoreFactory`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from thalweg.stores.api import CacheBudget, StoreHost
from thalweg.stores.bytes.contract import ByteStore, prefix_end
from thalweg.stores.codec import RowCodec
from thalweg.stores.formats import TIMESTAMP_BYTES
from thalweg.stores.kinds.key_value import KeyValuePairs, TypedKeyValueStore
from thalweg.stores.rows.pending import PendingByteStore


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """The subscriptions of one foreign-key join."""

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "timestamped-key-value"

    @property
    def function(self) -> str:
        """What describes such a store, for messages: the join does."""
        return "join"

    @property
    def is_timestamped(self) -> bool:
        """Rows carry the event time of their value."""
        return True

    def with_timestamps(self) -> SubscriptionSpec:
        """Returns the same."""
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
    ) -> SubscriptionStore:
        """Stacks the layers of a store."""
        return SubscriptionStore(_SubscriptionPairs(PendingByteStore(open_bytes()), codec), host)


class _SubscriptionPairs(KeyValuePairs):
    """Rows whose changelog has headers."""

    def __init__(self, rows: PendingByteStore, codec: RowCodec) -> None:
        super().__init__(rows, codec)
        put, log, current, pack = rows.put, codec.log, codec.current, codec.pack
        if log is None:
            return

        def write(_entry_key: object, key: bytes, value: bytes | None, timestamp: int) -> None:
            put(key, None if value is None else pack(value, timestamp))
            log(key, value, timestamp, current.headers())

        self.write_raw = write


class SubscriptionStore(TypedKeyValueStore):
    """A timestamped store of bytes that finds the rows of a prefix."""

    def writer(self) -> Callable[[bytes, bytes | None, int], None]:
        """Returns the function (key, value or None to delete, timestamp) that writes a row."""
        stored = self._stored

        def put(key: bytes, value: bytes | None, timestamp: int) -> None:
            stored.puts += 1
            stored.write_raw(key, key, value, timestamp)

        return put

    def subscribers(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields key and value of the rows whose keys begin with `prefix`, in their order."""
        for key, row in self._stored.scan((prefix, prefix_end(prefix))):
            yield key, row[TIMESTAMP_BYTES:]
