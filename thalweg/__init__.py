"""Everything a topology script needs, under one name.

    from thalweg import App, StreamsBuilder, serdes

Owns the list of public names, nothing else. A name is loaded when it is first asked for:
`import thalweg` costs nothing, and a script pays only for what it uses (the test driver, the
log's library, the command line stay away until they are wanted).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from thalweg.stores.api import (
        KeyValueStore,
        ReadOnlyKeyValueStore,
        ReadOnlyVersionedKeyValueStore,
        ReadOnlyWindowStore,
        TimestampedKeyValueStore,
        TimestampedKeyValueStoreWithHeaders,
        TimestampedWindowStore,
        TimestampedWindowStoreWithHeaders,
        ValueAndTimestamp,
        ValueTimestampHeaders,
        VersionedKeyValueStore,
        VersionedRecord,
        WindowStore,
    )
    from thalweg.stores.backends import ByteStoreSupplier
    from thalweg.stores.builders import (
        StoreBuilder,
        key_value_store,
        lru_store,
        session_store,
        session_store_with_headers,
        timestamped_key_value_store,
        timestamped_key_value_store_with_headers,
        timestamped_window_store,
        timestamped_window_store_with_headers,
        versioned_store,
        window_store,
    )
    from thalweg.stores.record import (
        Headers,
        Record,
        RecordContext,
        RecordMetadata,
    )
    from thalweg.stores.serde import Serde, serdes
    from thalweg.stores.session_faces import (
        AggregationWithHeaders,
        ReadOnlySessionStore,
        SessionStore,
        SessionStoreWithHeaders,
    )
    from thalweg.stores.windowed import (
        SessionWindow,
        TimeWindow,
        UnlimitedWindow,
        Window,
        Windowed,
    )
    from thalweg.streams.app import App
    from thalweg.streams.config import StreamsConfig
    from thalweg.streams.consumer import Consumer, read_topic
    from thalweg.streams.error_handlers import (
        DeadLetter,
        ErrorContext,
        OutgoingRecord,
        Response,
        dead_letter,
        log_and_continue,
        log_and_fail,
        retry_or_fail,
    )
    from thalweg.streams.errors import (
        ApplicationShutdownError,
        AppStateError,
        AuthenticationError,
        BackendError,
        BrokerError,
        CodecError,
        CodecMismatchError,
        ConfigError,
        CorruptDataError,
        DecodeError,
        DeserializationError,
        EncodeError,
        GroupError,
        MissingTopicsError,
        NoListSupportError,
        OffsetOutOfRangeError,
        ProcessingError,
        ProductionError,
        SerdeError,
        SerializationError,
        StorageError,
        StoreClosedError,
        StoreError,
        StoreLockedError,
        StoreMovedError,
        StoreNotReadyError,
        StreamsError,
        TaskCorruptedError,
        TaskError,
        TaskMigratedError,
        TopologyError,
        TransportError,
        UnknownStoreError,
        UnsupportedBrokerError,
    )
    from thalweg.streams.life import State
    from thalweg.streams.observe.metrics import Metric
    from thalweg.streams.producer import Producer
    from thalweg.streams.queries.metadata import KeyQueryMetadata, StreamsMetadata
    from thalweg.streams.queries.position import (
        Position,
    )
    from thalweg.streams.queries.state_queries import (
        FailureReason,
        KeyQuery,
        MultiVersionedKeyQuery,
        Query,
        QueryFailedError,
        QueryResult,
        RangeQuery,
        StateQueryResult,
        TimestampedKeyQuery,
        TimestampedRangeQuery,
        VersionedKeyQuery,
        WindowKeyQuery,
        WindowRangeQuery,
    )
    from thalweg.streams.restore_listener import RestoreListener
    from thalweg.streams.testing import TopologyTestDriver
    from thalweg.streams.transport.port import TopicPartition
    from thalweg.streams.uncaught import UncaughtResponse
    from thalweg.streams.worker.progress import Progress
    from thalweg.topology.dsl.branched import BranchedKStream
    from thalweg.topology.dsl.builder import StreamsBuilder
    from thalweg.topology.dsl.cogrouped import (
        CogroupedKStream,
        SessionWindowedCogroupedKStream,
        TimeWindowedCogroupedKStream,
    )
    from thalweg.topology.dsl.global_table import GlobalKTable
    from thalweg.topology.dsl.grouped import KGroupedStream
    from thalweg.topology.dsl.grouped_table import KGroupedTable
    from thalweg.topology.dsl.join_windows import JoinWindows, StreamJoined
    from thalweg.topology.dsl.options import Materialized
    from thalweg.topology.dsl.session_windowed import SessionWindowedKStream
    from thalweg.topology.dsl.stream import KStream
    from thalweg.topology.dsl.suppress import BufferConfig, Suppressed
    from thalweg.topology.dsl.table import KTable, ValueTransformer
    from thalweg.topology.dsl.windowed import TimeWindowedKStream
    from thalweg.topology.dsl.windows import (
        EmitStrategy,
        SessionWindows,
        SlidingWindows,
        TimeWindows,
        UnlimitedWindows,
        WindowedStreamPartitioner,
    )
    from thalweg.topology.physical import Topology
    from thalweg.topology.processor import (
        AutoOffsetReset,
        Cancellable,
        ConsumedRecord,
        FixedKeyProcessor,
        FixedKeyProcessorContext,
        FixedKeyProcessorSupplier,
        FixedKeyRecord,
        Processor,
        ProcessorContext,
        ProcessorSupplier,
        ProcessorWrapper,
        PunctuationType,
        StreamPartitioner,
        TableChange,
        TimestampExtractor,
        TopicNameExtractor,
        fail_on_invalid_timestamp,
        log_and_skip_on_invalid_timestamp,
        use_partition_time_on_invalid_timestamp,
        wallclock_timestamp,
    )

__all__ = [
    "AggregationWithHeaders",
    "App",
    "AppStateError",
    "ApplicationShutdownError",
    "AuthenticationError",
    "AutoOffsetReset",
    "BackendError",
    "BranchedKStream",
    "BrokerError",
    "BufferConfig",
    "ByteStoreSupplier",
    "Cancellable",
    "CodecError",
    "CodecMismatchError",
    "CogroupedKStream",
    "ConfigError",
    "ConsumedRecord",
    "Consumer",
    "CorruptDataError",
    "DeadLetter",
    "DecodeError",
    "DeserializationError",
    "EmitStrategy",
    "EncodeError",
    "ErrorContext",
    "FailureReason",
    "FixedKeyProcessor",
    "FixedKeyProcessorContext",
    "FixedKeyProcessorSupplier",
    "FixedKeyRecord",
    "GlobalKTable",
    "GroupError",
    "Headers",
    "JoinWindows",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "KeyQuery",
    "KeyQueryMetadata",
    "KeyValueStore",
    "Materialized",
    "Metric",
    "MissingTopicsError",
    "MultiVersionedKeyQuery",
    "NoListSupportError",
    "OffsetOutOfRangeError",
    "OutgoingRecord",
    "Position",
    "ProcessingError",
    "Processor",
    "ProcessorContext",
    "ProcessorSupplier",
    "ProcessorWrapper",
    "Producer",
    "ProductionError",
    "Progress",
    "PunctuationType",
    "Query",
    "QueryFailedError",
    "QueryResult",
    "RangeQuery",
    "ReadOnlyKeyValueStore",
    "ReadOnlySessionStore",
    "ReadOnlyVersionedKeyValueStore",
    "ReadOnlyWindowStore",
    "Record",
    "RecordContext",
    "RecordMetadata",
    "Response",
    "RestoreListener",
    "Serde",
    "SerdeError",
    "SerializationError",
    "SessionStore",
    "SessionStoreWithHeaders",
    "SessionWindow",
    "SessionWindowedCogroupedKStream",
    "SessionWindowedKStream",
    "SessionWindows",
    "SlidingWindows",
    "State",
    "StateQueryResult",
    "StorageError",
    "StoreBuilder",
    "StoreClosedError",
    "StoreError",
    "StoreLockedError",
    "StoreMovedError",
    "StoreNotReadyError",
    "StreamJoined",
    "StreamPartitioner",
    "StreamsBuilder",
    "StreamsConfig",
    "StreamsError",
    "StreamsMetadata",
    "Suppressed",
    "TableChange",
    "TaskCorruptedError",
    "TaskError",
    "TaskMigratedError",
    "TimeWindow",
    "TimeWindowedCogroupedKStream",
    "TimeWindowedKStream",
    "TimeWindows",
    "TimestampExtractor",
    "TimestampedKeyQuery",
    "TimestampedKeyValueStore",
    "TimestampedKeyValueStoreWithHeaders",
    "TimestampedRangeQuery",
    "TimestampedWindowStore",
    "TimestampedWindowStoreWithHeaders",
    "TopicNameExtractor",
    "TopicPartition",
    "Topology",
    "TopologyError",
    "TopologyTestDriver",
    "TransportError",
    "UncaughtResponse",
    "UnknownStoreError",
    "UnlimitedWindow",
    "UnlimitedWindows",
    "UnsupportedBrokerError",
    "ValueAndTimestamp",
    "ValueTimestampHeaders",
    "ValueTransformer",
    "VersionedKeyQuery",
    "VersionedKeyValueStore",
    "VersionedRecord",
    "Window",
    "WindowKeyQuery",
    "WindowRangeQuery",
    "WindowStore",
    "Windowed",
    "WindowedStreamPartitioner",
    "dead_letter",
    "fail_on_invalid_timestamp",
    "key_value_store",
    "log_and_continue",
    "log_and_fail",
    "log_and_skip_on_invalid_timestamp",
    "lru_store",
    "read_topic",
    "retry_or_fail",
    "serdes",
    "session_store",
    "session_store_with_headers",
    "timestamped_key_value_store",
    "timestamped_key_value_store_with_headers",
    "timestamped_window_store",
    "timestamped_window_store_with_headers",
    "use_partition_time_on_invalid_timestamp",
    "versioned_store",
    "wallclock_timestamp",
    "window_store",
]

_HOMES: Final[dict[str, tuple[str, ...]]] = {
    "thalweg.stores.api": (
        "KeyValueStore",
        "ReadOnlyKeyValueStore",
        "ReadOnlyVersionedKeyValueStore",
        "ReadOnlyWindowStore",
        "TimestampedKeyValueStore",
        "TimestampedKeyValueStoreWithHeaders",
        "TimestampedWindowStore",
        "TimestampedWindowStoreWithHeaders",
        "ValueAndTimestamp",
        "ValueTimestampHeaders",
        "VersionedKeyValueStore",
        "VersionedRecord",
        "WindowStore",
    ),
    "thalweg.stores.backends": ("ByteStoreSupplier",),
    "thalweg.stores.builders": (
        "StoreBuilder",
        "key_value_store",
        "lru_store",
        "session_store",
        "session_store_with_headers",
        "timestamped_key_value_store",
        "timestamped_key_value_store_with_headers",
        "timestamped_window_store",
        "timestamped_window_store_with_headers",
        "versioned_store",
        "window_store",
    ),
    "thalweg.stores.record": (
        "Headers",
        "Record",
        "RecordContext",
        "RecordMetadata",
    ),
    "thalweg.stores.serde": (
        "Serde",
        "serdes",
    ),
    "thalweg.stores.session_faces": (
        "AggregationWithHeaders",
        "ReadOnlySessionStore",
        "SessionStore",
        "SessionStoreWithHeaders",
    ),
    "thalweg.stores.windowed": (
        "SessionWindow",
        "TimeWindow",
        "UnlimitedWindow",
        "Window",
        "Windowed",
    ),
    "thalweg.streams.app": ("App",),
    "thalweg.streams.life": ("State",),
    "thalweg.streams.uncaught": ("UncaughtResponse",),
    "thalweg.streams.config": ("StreamsConfig",),
    "thalweg.streams.consumer": (
        "Consumer",
        "read_topic",
    ),
    "thalweg.streams.error_handlers": (
        "DeadLetter",
        "ErrorContext",
        "OutgoingRecord",
        "Response",
        "dead_letter",
        "log_and_continue",
        "log_and_fail",
        "retry_or_fail",
    ),
    "thalweg.streams.errors": (
        "AppStateError",
        "ApplicationShutdownError",
        "AuthenticationError",
        "BackendError",
        "BrokerError",
        "CodecError",
        "CodecMismatchError",
        "ConfigError",
        "CorruptDataError",
        "DecodeError",
        "DeserializationError",
        "EncodeError",
        "GroupError",
        "MissingTopicsError",
        "NoListSupportError",
        "OffsetOutOfRangeError",
        "ProcessingError",
        "ProductionError",
        "SerdeError",
        "SerializationError",
        "StorageError",
        "StoreClosedError",
        "StoreError",
        "StoreLockedError",
        "StoreMovedError",
        "StoreNotReadyError",
        "StreamsError",
        "TaskCorruptedError",
        "TaskError",
        "TaskMigratedError",
        "TopologyError",
        "TransportError",
        "UnknownStoreError",
        "UnsupportedBrokerError",
    ),
    "thalweg.streams.observe.metrics": ("Metric",),
    "thalweg.streams.producer": ("Producer",),
    "thalweg.streams.queries.metadata": (
        "KeyQueryMetadata",
        "StreamsMetadata",
    ),
    "thalweg.streams.restore_listener": ("RestoreListener",),
    "thalweg.streams.testing": ("TopologyTestDriver",),
    "thalweg.streams.transport.port": ("TopicPartition",),
    "thalweg.streams.worker.progress": ("Progress",),
    "thalweg.topology.dsl.branched": ("BranchedKStream",),
    "thalweg.topology.dsl.builder": ("StreamsBuilder",),
    "thalweg.topology.dsl.cogrouped": (
        "CogroupedKStream",
        "SessionWindowedCogroupedKStream",
        "TimeWindowedCogroupedKStream",
    ),
    "thalweg.topology.dsl.global_table": ("GlobalKTable",),
    "thalweg.topology.dsl.grouped": ("KGroupedStream",),
    "thalweg.topology.dsl.grouped_table": ("KGroupedTable",),
    "thalweg.topology.dsl.join_windows": (
        "JoinWindows",
        "StreamJoined",
    ),
    "thalweg.topology.dsl.options": ("Materialized",),
    "thalweg.topology.dsl.session_windowed": ("SessionWindowedKStream",),
    "thalweg.topology.dsl.stream": ("KStream",),
    "thalweg.topology.dsl.suppress": (
        "BufferConfig",
        "Suppressed",
    ),
    "thalweg.topology.dsl.table": (
        "KTable",
        "ValueTransformer",
    ),
    "thalweg.topology.dsl.windowed": ("TimeWindowedKStream",),
    "thalweg.topology.dsl.windows": (
        "EmitStrategy",
        "SessionWindows",
        "SlidingWindows",
        "TimeWindows",
        "UnlimitedWindows",
        "WindowedStreamPartitioner",
    ),
    "thalweg.topology.processor": (
        "AutoOffsetReset",
        "Cancellable",
        "ConsumedRecord",
        "FixedKeyProcessor",
        "FixedKeyProcessorContext",
        "FixedKeyProcessorSupplier",
        "FixedKeyRecord",
        "Processor",
        "ProcessorContext",
        "ProcessorSupplier",
        "ProcessorWrapper",
        "PunctuationType",
        "StreamPartitioner",
        "TableChange",
        "TimestampExtractor",
        "TopicNameExtractor",
        "fail_on_invalid_timestamp",
        "log_and_skip_on_invalid_timestamp",
        "use_partition_time_on_invalid_timestamp",
        "wallclock_timestamp",
    ),
    "thalweg.streams.queries.position": ("Position",),
    "thalweg.streams.queries.state_queries": (
        "FailureReason",
        "KeyQuery",
        "MultiVersionedKeyQuery",
        "Query",
        "QueryFailedError",
        "QueryResult",
        "RangeQuery",
        "StateQueryResult",
        "TimestampedKeyQuery",
        "TimestampedRangeQuery",
        "VersionedKeyQuery",
        "WindowKeyQuery",
        "WindowRangeQuery",
    ),
    "thalweg.topology.physical": ("Topology",),
}
"""Module -> public names it is asked for."""

_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


__version__: str
"""The version of the distribution, looked up when it is asked for."""


def __getattr__(name: str) -> Any:
    """Loads a public name from its module, once.

    Raises:
        AttributeError: there is no such name.
    """
    if name == "__version__":
        return import_module("thalweg.streams.observe.metrics").thalweg_version()
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    """Returns the public names, loaded or not."""
    return sorted({*globals(), *__all__})
