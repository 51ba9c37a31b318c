"""Subscriptions: the store of a foreign-key join on its right side.

Owns the differences from a timestamped key-value store of bytes. It finds the subscribers of a
right row in their order. Its changelog has the headers of the current record, as in the JVM since
4.3. Its rows have headers if the setting `dsl_store_format` says so. It has no cache. The layout of
its rows is in `stores.foreign_keys`.

Source: JVM `SubscriptionStoreFactory`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from thalweg.stores.api import CacheBudget, StoreHost
from thalweg.stores.bytes.contract import ByteStore, prefix_end
from thalweg.stores.codec import RowCodec
from thalweg.stores.kinds.key_value import KeyValuePairs, TypedKeyValueStore
from thalweg.stores.record import headers_of
from thalweg.stores.row_format import HeaderRows, RowFormat, format_of, stamped
from thalweg.stores.rows.pending import PendingByteStore


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """The subscriptions of one foreign-key join.

    Attributes:
        header_rows: what rows keep beside a value.
    """

    header_rows: HeaderRows = "timestamped"

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row."""
        return format_of(is_timestamped=True, header_rows=self.header_rows)

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "timestamped-key-value"

    @property
    def function(self) -> str:
        """What describes such a store, for messages: the join does."""
        return "join"

    def with_timestamps(self) -> SubscriptionSpec:
        """Returns the same."""
        return self

    def with_headers(self) -> SubscriptionSpec:
        """Returns the same, with rows that carry headers as well."""
        return replace(self, header_rows="headers")

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

        def write(_entry_key: object, key: bytes, value: bytes | None, timestamp: int) -> None:
            headers = current.headers()
            put(key, None if value is None else pack(value, stamped(timestamp, headers)))
            if log is not None:
                log(key, value, timestamp, headers)

        self.write_raw = write


class SubscriptionStore(TypedKeyValueStore):
    """A timestamped store of bytes that finds the rows of a prefix."""

    def writer(self) -> Callable[[bytes, bytes | None, int], None]:
        """Returns the function (key, value or None to delete, timestamp) that writes a row.

        Bound once per task: each registration comes here.
        """
        stored, put, pack = self._stored, self.rows.put, self.codec.pack
        log, current = self.codec.log, self.codec.current

        def write(key: bytes, value: bytes | None, timestamp: int) -> None:
            stored.puts += 1
            headers = headers_of(current.origin)
            put(key, None if value is None else pack(value, stamped(timestamp, headers)))
            if log is not None:
                log(key, value, timestamp, headers)

        return write

    def subscribers(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields key and value of the rows whose keys begin with `prefix`, in their order."""
        value_of = self.codec.value_of
        for key, row in self._stored.scan((prefix, prefix_end(prefix))):
            yield key, value_of(row)
