"""Descriptions of stores, and the one place where a store's layers are stacked.

Owns `StoreBuilder`: a store's name, its kind, its byte store, whether it is logged and cached, and
how long windows are kept. Building stacks these layers, from the top::

    typed store         what users and the task call (kinds)
    cache               holds updates back, where the store is cached (cache.cached_store)
    pairs               encode rows and append to the changelog (kinds, changelog)
    uncommitted writes  wait for the commit (rows.pending); window rows have their
                        segments and retention there (rows.segments)
    byte store          keeps bytes (bytes)

It must not know topologies or tasks; a task is a `StoreHost` here.

Source: JVM `Stores`, `StoreBuilder`, `WindowedChangelogTopicConfig`; kafka-streams A9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, final

from thalweg.stores.api import StoreHost, TaskStore
from thalweg.stores.backends import Backend, checked_backend, is_persistent, open_backend
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.codec import RowCodec
from thalweg.stores.directory import STORES_DIRECTORY
from thalweg.stores.durations import Duration, to_ms
from thalweg.stores.kinds.key_value import KeyValueSpec
from thalweg.stores.kinds.list import ListSpec
from thalweg.stores.kinds.session import SessionSpec
from thalweg.stores.kinds.typed import StoreSpec
from thalweg.stores.kinds.versioned import VersionedSpec
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.row_format import HeaderRows, RowFormat
from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.stores.sides import WrappingSerde

StoreChoice: TypeAlias = Callable[["StoreBuilder"], Backend]
"""Chooses what keeps the bytes of a store, which is described but for that."""

_MIN_SEGMENT_INTERVAL_MS: Final = 60_000


@final
@dataclass(frozen=True, kw_only=True)
class StoreBuilder:
    """The description of a store. `add_state_store` takes equal ones for the same store.

    Attributes:
        name: the store's name within its topology.
        spec: what a store of its kind is: all that depends on the kind (`stores.kinds`).
        backend: what keeps its bytes: "rocks", "sqlite", "lmdb" or "files" on disk, "memory", or a
            `ByteStoreSupplier`; None for a store of the DSL that takes the application's default.
        key_serde: how keys are written; None for the application's default.
        value_serde: how values are written.
        logged: whether changes go to a changelog, from which the store is restored.
        log_config: settings of the changelog topic, by Kafka's names.
        cached: whether updates are held in the record cache until the next commit.
        takes_dsl_format: whether the setting `dsl_store_format` decides what its rows keep: it is
            the DSL's own.
        hint: where its serdes are given, for messages.
    """

    name: str
    spec: StoreSpec
    backend: Backend | None = "rocks"
    key_serde: Serde[Any] | None = None
    value_serde: Serde[Any] | None = None
    logged: bool = True
    log_config: Mapping[str, str] = field(default_factory=dict)
    cached: bool = False
    takes_dsl_format: bool = False
    hint: SerdeHint = field(default=SerdeHint(), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Takes serdes by name, and refuses what is none.

        Raises:
            TypeError: a serde is none.
            ValueError: nothing can be kept in the backend.
        """
        if self.backend is not None:
            checked_backend(self.backend, f"backend of store '{self.name}'")
        if isinstance(self.spec, KeyValueSpec) and self.spec.max_entries and self.persistent:
            message = f"lru_store '{self.name}' keeps its rows in memory; it takes no other backend"
            raise ValueError(message)
        for argument in ("key_serde", "value_serde"):
            serde = serde_of(getattr(self, argument), f"{argument} of store '{self.name}'")
            object.__setattr__(self, argument, serde)
        if not self.hint.operator:
            function = self.spec.function
            hint = SerdeHint(
                "", f"{function}(..., key_serde=...)", f"{function}(..., value_serde=...)"
            )
            object.__setattr__(self, "hint", hint)

    @property
    def kind(self) -> str:
        """The name of its kind, as users see it."""
        return self.spec.kind

    @property
    def row_format(self) -> RowFormat:
        """What a row keeps beside its value."""
        return self.spec.row_format

    @property
    def is_timestamped(self) -> bool:
        """Whether users see the event time of a value."""
        return self.spec.row_format.is_timestamped

    @property
    def persistent(self) -> bool:
        """Whether its rows outlive the process."""
        return self.backend is None or is_persistent(self.backend)

    def with_backend(self, backend: Backend) -> StoreBuilder:
        """Returns the same with its bytes kept elsewhere.

        Example::

            key_value_store("seen", serdes.string, serdes.int64).with_backend("sqlite")

        Args:
            backend: "rocks", "memory", "sqlite", "lmdb", "files", or a `ByteStoreSupplier`.

        Raises:
            ValueError: it is none of these.
        """
        chosen, spec = replace(self, backend=backend), self.spec
        if isinstance(spec, WindowSpec) and spec.keeps_records:
            # What rows of a join of streams have depends on where they are.
            return replace(chosen, spec=spec.of_records(in_memory=not chosen.persistent))
        return chosen

    def with_caching(self) -> StoreBuilder:
        """Returns the same with updates held in the record cache.

        Raises:
            ValueError: it is a versioned store, which has no cache.
        """
        if isinstance(self.spec, VersionedSpec):
            message = (
                f"versioned store '{self.name}' cannot be cached: a cache keeps one update of a key, "
                "and a versioned store keeps them all; leave out with_caching()"
            )
            raise ValueError(message)
        return replace(self, cached=True)

    def without_caching(self) -> StoreBuilder:
        """Returns the same with every update written at once."""
        return replace(self, cached=False)

    def in_dsl_format(self, *, with_headers: bool) -> StoreBuilder:
        """Returns the same, with headers in its rows if the setting says so and decides about it."""
        if not with_headers or not self.takes_dsl_format:
            return self
        return replace(self, spec=self.spec.with_headers())

    def with_logging(self, config: Mapping[str, str] | None = None) -> StoreBuilder:
        """Returns the same with a changelog.

        Args:
            config: settings of the changelog topic, by Kafka's names.
        """
        return replace(self, logged=True, log_config=dict(config or {}))

    def without_logging(self) -> StoreBuilder:
        """Returns the same without a changelog: its rows are lost with its task."""
        return replace(self, logged=False, log_config={})

    def with_default_serdes(self, key_serde: Serde[Any], value_serde: Serde[Any]) -> StoreBuilder:
        """Returns the same with serdes for what has none."""
        return replace(
            self,
            key_serde=_or_default(self.key_serde, key_serde),
            value_serde=_or_default(self.value_serde, value_serde),
        )

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names.

        Args:
            additional_ms: added to the retention of windows, for clocks that drift.
        """
        return self.spec.changelog_config(additional_ms)

    def build(self, host: StoreHost) -> TaskStore:
        """Opens the store for a task.

        Args:
            host: the task. Files are kept in `<its directory>/rocksdb/<name>`.

        Raises:
            ValueError: the store has no serdes.
            StoreLockedError: another process holds its directory.
            BackendError: its files cannot be opened.
        """
        cache = host.record_cache if self.cached else None
        if cache is not None and cache.max_bytes == 0:
            cache = None
        return self.spec.build(RowCodec(self, host), host, cache, lambda: self._open_backend(host))

    def _open_backend(self, host: StoreHost) -> ByteStore:
        return open_backend(
            self.backend or "rocks",
            self.name,
            host.directory / STORES_DIRECTORY / self.name,
            has_changelog=self.logged,
        )


def _or_default(serde: Serde[Any] | None, default: Serde[Any]) -> Serde[Any]:
    if isinstance(serde, WrappingSerde):
        return serde.with_default(default)
    return serde or default


def key_value_store(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a map from keys to values.

    Args:
        name: the store's name.
        key_serde: how keys are written; None for the application's default.
        value_serde: how values are written.
        in_memory: keep rows in memory only; they are restored from the changelog.
    """
    return StoreBuilder(
        name=name,
        spec=KeyValueSpec(),
        backend="memory" if in_memory else "rocks",
        key_serde=key_serde,
        value_serde=value_serde,
    )


def timestamped_key_value_store(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a map from keys to values with their event time; see `key_value_store`."""
    plain = key_value_store(name, key_serde, value_serde, in_memory=in_memory)
    return replace(plain, spec=plain.spec.with_timestamps())


def timestamped_key_value_store_with_headers(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    rows: HeaderRows = "headers",
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a map from keys to values with the event time and headers of their record.

        orders = timestamped_key_value_store_with_headers("orders", serdes.string, serdes.bytes)

    Args:
        name: the store's name.
        key_serde: how keys are written; None for the application's default.
        value_serde: how values are written.
        rows: what a row keeps beside its value: time and headers, or as stores without headers
            do its time ("timestamped") or nothing ("plain"). The changelog has all of it in
            either case. A row that was written without headers is read with none, one
            without its time with -1.
        in_memory: keep rows in memory only; they are restored from the changelog.
    """
    plain = timestamped_key_value_store(name, key_serde, value_serde, in_memory=in_memory)
    return replace(plain, spec=KeyValueSpec(is_timestamped=True, header_rows=rows))


def lru_store(
    name: str,
    max_entries: int,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
) -> StoreBuilder:
    """Describes a map in memory that drops the least recently used keys.

    Args:
        name: the store's name.
        max_entries: how many rows it keeps, at least 1.
        key_serde: how keys are written; None for the application's default.
        value_serde: how values are written.

    Raises:
        ValueError: it would keep no row.
    """
    if max_entries < 1:
        message = f"max_entries of LRU store '{name}' must be at least 1, got {max_entries}"
        raise ValueError(message)
    return StoreBuilder(
        name=name,
        spec=KeyValueSpec(max_entries=max_entries),
        backend="memory",
        key_serde=key_serde,
        value_serde=value_serde,
    )


def list_store(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a map from keys to lists, to which values are added one at a time.

    Such a store has no cache: each addition is written at once, and logs the whole list.

    Args:
        name: the store's name.
        key_serde: how keys are written; None for the application's default.
        value_serde: how one value of a list is written.
        in_memory: keep rows in memory only; they are restored from the changelog.
    """
    plain = key_value_store(name, key_serde, value_serde, in_memory=in_memory)
    return replace(plain, spec=ListSpec())


def default_segment_interval_ms(retention_ms: int) -> int:
    """Returns the span of time that expires at once: half the retention, at least a minute."""
    return max(retention_ms // 2, _MIN_SEGMENT_INTERVAL_MS)


def window_store(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    retention_ms: Duration,
    window_size_ms: Duration,
    segment_interval_ms: int | None = None,
    retain_duplicates: bool = False,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a map from keys and window starts to values.

    Args:
        name: the store's name.
        key_serde: how keys are written; None for the application's default.
        value_serde: how values are written.
        retention_ms: how long windows are kept: rows whose start is older than the newest
            start by it are gone. Not below `window_size_ms`. A timedelta or milliseconds.
        window_size_ms: length of the windows. A timedelta or milliseconds.
        segment_interval_ms: span of time that expires at once; half the retention, and at
            least a minute, if not given.
        retain_duplicates: keep every put of a key and start, not the last one only.
        in_memory: keep rows in memory only; they are restored from the changelog.

    Raises:
        ValueError: a duration is out of its range.
    """
    retention, size = to_ms(retention_ms), to_ms(window_size_ms)
    if size < 0:
        message = f"window_size_ms of store '{name}' must not be negative, got {size}"
        raise ValueError(message)
    if retention < size or retention < 0:
        message = (
            f"retention_ms of store '{name}' must not be below its window size of {size} ms, "
            f"got {retention}"
        )
        raise ValueError(message)
    interval = default_segment_interval_ms(retention)
    if segment_interval_ms is not None:
        interval = segment_interval_ms
    if interval < 1:
        message = f"segment_interval_ms of store '{name}' must be at least 1, got {interval}"
        raise ValueError(message)
    return StoreBuilder(
        name=name,
        spec=WindowSpec(
            is_timestamped=False,
            retention_ms=retention,
            window_size_ms=size,
            segment_interval_ms=interval,
            retain_duplicates=retain_duplicates,
        ),
        backend="memory" if in_memory else "rocks",
        key_serde=key_serde,
        value_serde=value_serde,
    )


def timestamped_window_store(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    retention_ms: Duration,
    window_size_ms: Duration,
    segment_interval_ms: int | None = None,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a window store whose values have their event time; see `window_store`."""
    plain = window_store(
        name,
        key_serde,
        value_serde,
        retention_ms=retention_ms,
        window_size_ms=window_size_ms,
        segment_interval_ms=segment_interval_ms,
        in_memory=in_memory,
    )
    return replace(plain, spec=plain.spec.with_timestamps())


def timestamped_window_store_with_headers(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    retention_ms: Duration,
    window_size_ms: Duration,
    segment_interval_ms: int | None = None,
    retain_duplicates: bool = False,
    rows: HeaderRows = "headers",
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a window store whose values have event time and headers of their record.

    See `window_store`, and `timestamped_key_value_store_with_headers` for `rows`.
    """
    plain = window_store(
        name,
        key_serde,
        value_serde,
        retention_ms=retention_ms,
        window_size_ms=window_size_ms,
        segment_interval_ms=segment_interval_ms,
        retain_duplicates=retain_duplicates,
        in_memory=in_memory,
    )
    spec = plain.spec.with_headers()
    assert isinstance(spec, WindowSpec)
    return replace(plain, spec=replace(spec, header_rows=rows))


def session_store(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    retention_ms: Duration,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a map from keys and sessions to values.

    Args:
        name: the store's name.
        key_serde: how keys are written; None for the application's default.
        value_serde: how values are written.
        retention_ms: how long sessions are kept: those whose end is older than the newest end
            by it are gone. A timedelta or milliseconds.
        in_memory: keep rows in memory only; they are restored from the changelog.

    Raises:
        ValueError: the retention is negative.

    Example:
        >>> visits = session_store("visits", serdes.string, serdes.int64, retention_ms=3_600_000)
    """
    retention = to_ms(retention_ms)
    if retention < 0:
        message = f"retention_ms of store '{name}' must not be negative, got {retention}"
        raise ValueError(message)
    return StoreBuilder(
        name=name,
        spec=SessionSpec(
            retention_ms=retention, segment_interval_ms=default_segment_interval_ms(retention)
        ),
        backend="memory" if in_memory else "rocks",
        key_serde=key_serde,
        value_serde=value_serde,
    )


def session_store_with_headers(
    name: str,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    retention_ms: Duration,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a session store whose values have the headers of their record.

    See `session_store`. Its values are `AggregationWithHeaders`.
    """
    plain = session_store(
        name, key_serde, value_serde, retention_ms=retention_ms, in_memory=in_memory
    )
    return replace(plain, spec=plain.spec.with_headers())


_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60 * _SECOND_MS
_HOUR_MS: Final = 60 * _MINUTE_MS


def default_version_segment_interval_ms(history_retention_ms: int) -> int:
    """Returns the span of time that expires at once in a versioned store: a part of the history."""
    if history_retention_ms <= _MINUTE_MS:
        return max(history_retention_ms // 3, 2 * _SECOND_MS)
    if history_retention_ms <= 5 * _MINUTE_MS:
        return max(history_retention_ms // 5, 20 * _SECOND_MS)
    if history_retention_ms <= _HOUR_MS:
        return max(history_retention_ms // 12, _MINUTE_MS)
    return max(history_retention_ms // 24, 5 * _MINUTE_MS)


def versioned_store(
    name: str,
    history_retention: Duration,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    *,
    segment_interval: Duration | None = None,
    in_memory: bool = False,
) -> StoreBuilder:
    """Describes a map that keeps the former values of each key, each with its time.

    Example::

        rates = versioned_store("rates", timedelta(hours=1), serdes.string, serdes.float64)
        table = builder.table("rates", materialized=Materialized(store=rates))

    Args:
        name: the store's name.
        history_retention: how far back in event time it can be read, and how late a value may
            come. A timedelta or milliseconds.
        key_serde: how keys are written; None for the application's default.
        value_serde: how values are written.
        segment_interval: span of time that expires at once; chosen by the history if not given.
        in_memory: keep rows in memory only; they are restored from the changelog.

    Raises:
        ValueError: a duration is out of its range.
    """
    history = to_ms(history_retention)
    if history < 0:
        message = f"history_retention of store '{name}' must not be negative, got {history}"
        raise ValueError(message)
    interval = default_version_segment_interval_ms(history)
    if segment_interval is not None:
        interval = to_ms(segment_interval)
    if interval < 1:
        message = f"segment_interval of store '{name}' must be at least 1 ms, got {interval}"
        raise ValueError(message)
    return StoreBuilder(
        name=name,
        spec=VersionedSpec(history, interval),
        backend="memory" if in_memory else "rocks",
        key_serde=key_serde,
        value_serde=value_serde,
    )
