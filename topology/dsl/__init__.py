"""The DSL: streams and tables, from which a topology is built.

Source: JVM `org.apache.kafka.streams.kstream`.
"""

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

__all__ = [
    "BranchedKStream",
    "BufferConfig",
    "CogroupedKStream",
    "EmitStrategy",
    "GlobalKTable",
    "JoinWindows",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "Materialized",
    "SessionWindowedCogroupedKStream",
    "SessionWindowedKStream",
    "SessionWindows",
    "SlidingWindows",
    "StreamJoined",
    "StreamsBuilder",
    "Suppressed",
    "TimeWindowedCogroupedKStream",
    "TimeWindowedKStream",
    "TimeWindows",
    "UnlimitedWindows",
    "ValueTransformer",
    "WindowedStreamPartitioner",
]
