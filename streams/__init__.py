"""Everything a topology script needs, under one name.

    from streams import App, StreamsBuilder, serdes

Owns the list of public names, nothing else. A name is loaded when it is first asked for:
`import streams` costs nothing, and a script pays only for what it uses (the test driver, the
log's library, the command line stay away until they are wanted).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stores.api import (
        KeyValueStore,
        ReadOnlyKeyValueStore,
        ReadOnlyWindowStore,
        TimestampedKeyValueStore,
        TimestampedWindowStore,
        ValueAndTimestamp,
        WindowStore,
    )
    from stores.builders import (
        StoreBuilder,
        key_value_store,
        lru_store,
        timestamped_key_value_store,
        timestamped_window_store,
        window_store,
    )
    from stores.record import (
        Headers,
        Record,
        RecordContext,
        RecordMetadata,
    )
    from stores.serde import (
        Serde,
        serdes,
    )
    from stores.windowed import (
        TimeWindow,
        UnlimitedWindow,
        Window,
        Windowed,
    )
    from streams.app import (
        App,
        State,
        UncaughtResponse,
    )
    from streams.config import StreamsConfig
    from streams.consumer import (
        Consumer,
        read_topic,
    )
    from streams.error_handlers import (
        DeadLetter,
        ErrorContext,
        OutgoingRecord,
        Response,
        dead_letter,
        log_and_continue,
        log_and_fail,
        retry_or_fail,
    )
    from streams.errors import (
        ApplicationShutdownError,
        AppStateError,
        AuthenticationError,
        BackendError,
        BrokerError,
        ConfigError,
        CorruptDataError,
        DeserializationError,
        GroupError,
        MissingTopicsError,
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
    from streams.metrics import Metric
    from streams.producer import Producer
    from streams.queries.metadata import (
        KeyQueryMetadata,
        StreamsMetadata,
    )
    from streams.restore_listener import RestoreListener
    from streams.testing import TopologyTestDriver
    from streams.transport.port import TopicPartition
    from streams.worker import Progress
    from topology.dsl.builder import StreamsBuilder
    from topology.dsl.grouped import (
        KGroupedStream,
        KGroupedTable,
        TimeWindowedKStream,
    )
    from topology.dsl.options import Materialized
    from topology.dsl.stream import (
        BranchedKStream,
        KStream,
    )
    from topology.dsl.table import (
        KTable,
        ValueTransformer,
    )
    from topology.dsl.windows import (
        TimeWindows,
        UnlimitedWindows,
        WindowedStreamPartitioner,
    )
    from topology.processor import (
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
        PunctuationType,
        StreamPartitioner,
        TimestampExtractor,
        TopicNameExtractor,
        fail_on_invalid_timestamp,
        log_and_skip_on_invalid_timestamp,
        use_partition_time_on_invalid_timestamp,
        wallclock_timestamp,
    )
    from topology.topology import Topology

__all__ = [
    "App",
    "AppStateError",
    "ApplicationShutdownError",
    "AuthenticationError",
    "AutoOffsetReset",
    "BackendError",
    "BranchedKStream",
    "BrokerError",
    "Cancellable",
    "ConfigError",
    "ConsumedRecord",
    "Consumer",
    "CorruptDataError",
    "DeadLetter",
    "DeserializationError",
    "ErrorContext",
    "FixedKeyProcessor",
    "FixedKeyProcessorContext",
    "FixedKeyProcessorSupplier",
    "FixedKeyRecord",
    "GroupError",
    "Headers",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "KeyQueryMetadata",
    "KeyValueStore",
    "Materialized",
    "Metric",
    "MissingTopicsError",
    "OffsetOutOfRangeError",
    "OutgoingRecord",
    "ProcessingError",
    "Processor",
    "ProcessorContext",
    "ProcessorSupplier",
    "Producer",
    "ProductionError",
    "Progress",
    "PunctuationType",
    "ReadOnlyKeyValueStore",
    "ReadOnlyWindowStore",
    "Record",
    "RecordContext",
    "RecordMetadata",
    "Response",
    "RestoreListener",
    "Serde",
    "SerdeError",
    "SerializationError",
    "State",
    "StorageError",
    "StoreBuilder",
    "StoreClosedError",
    "StoreError",
    "StoreLockedError",
    "StoreMovedError",
    "StoreNotReadyError",
    "StreamPartitioner",
    "StreamsBuilder",
    "StreamsConfig",
    "StreamsError",
    "StreamsMetadata",
    "TaskCorruptedError",
    "TaskError",
    "TaskMigratedError",
    "TimeWindow",
    "TimeWindowedKStream",
    "TimeWindows",
    "TimestampExtractor",
    "TimestampedKeyValueStore",
    "TimestampedWindowStore",
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
    "ValueTransformer",
    "Window",
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
    "timestamped_key_value_store",
    "timestamped_window_store",
    "use_partition_time_on_invalid_timestamp",
    "wallclock_timestamp",
    "window_store",
]

_HOMES: Final[dict[str, tuple[str, ...]]] = {
    "stores.api": (
        "KeyValueStore",
        "ReadOnlyKeyValueStore",
        "ReadOnlyWindowStore",
        "TimestampedKeyValueStore",
        "TimestampedWindowStore",
        "ValueAndTimestamp",
        "WindowStore",
    ),
    "stores.builders": (
        "StoreBuilder",
        "key_value_store",
        "lru_store",
        "timestamped_key_value_store",
        "timestamped_window_store",
        "window_store",
    ),
    "stores.record": (
        "Headers",
        "Record",
        "RecordContext",
        "RecordMetadata",
    ),
    "stores.serde": (
        "Serde",
        "serdes",
    ),
    "stores.windowed": (
        "TimeWindow",
        "UnlimitedWindow",
        "Window",
        "Windowed",
    ),
    "streams.app": (
        "App",
        "State",
        "UncaughtResponse",
    ),
    "streams.config": ("StreamsConfig",),
    "streams.consumer": (
        "Consumer",
        "read_topic",
    ),
    "streams.error_handlers": (
        "DeadLetter",
        "ErrorContext",
        "OutgoingRecord",
        "Response",
        "dead_letter",
        "log_and_continue",
        "log_and_fail",
        "retry_or_fail",
    ),
    "streams.errors": (
        "AppStateError",
        "ApplicationShutdownError",
        "AuthenticationError",
        "BackendError",
        "BrokerError",
        "ConfigError",
        "CorruptDataError",
        "DeserializationError",
        "GroupError",
        "MissingTopicsError",
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
    "streams.metrics": ("Metric",),
    "streams.producer": ("Producer",),
    "streams.queries.metadata": (
        "KeyQueryMetadata",
        "StreamsMetadata",
    ),
    "streams.restore_listener": ("RestoreListener",),
    "streams.testing": ("TopologyTestDriver",),
    "streams.transport.port": ("TopicPartition",),
    "streams.worker": ("Progress",),
    "topology.dsl.builder": ("StreamsBuilder",),
    "topology.dsl.grouped": (
        "KGroupedStream",
        "KGroupedTable",
        "TimeWindowedKStream",
    ),
    "topology.dsl.options": ("Materialized",),
    "topology.dsl.stream": (
        "BranchedKStream",
        "KStream",
    ),
    "topology.dsl.table": (
        "KTable",
        "ValueTransformer",
    ),
    "topology.dsl.windows": (
        "TimeWindows",
        "UnlimitedWindows",
        "WindowedStreamPartitioner",
    ),
    "topology.processor": (
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
        "PunctuationType",
        "StreamPartitioner",
        "TimestampExtractor",
        "TopicNameExtractor",
        "fail_on_invalid_timestamp",
        "log_and_skip_on_invalid_timestamp",
        "use_partition_time_on_invalid_timestamp",
        "wallclock_timestamp",
    ),
    "topology.topology": ("Topology",),
}
"""Module -> public names it is asked for."""

_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Loads a public name from its module, once.

    Raises:
        AttributeError: there is no such name.
    """
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    """Returns the public names, loaded or not."""
    return sorted({*globals(), *__all__})
