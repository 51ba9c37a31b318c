"""The DSL: streams and tables, from which a topology is built.

Source: JVM `org.apache.kafka.streams.kstream`.
"""

from topology.dsl.builder import StreamsBuilder
from topology.dsl.grouped import KGroupedStream, KGroupedTable, TimeWindowedKStream
from topology.dsl.options import Materialized
from topology.dsl.stream import BranchedKStream, KStream
from topology.dsl.table import KTable, ValueTransformer
from topology.dsl.windows import TimeWindows, UnlimitedWindows, WindowedStreamPartitioner

__all__ = [
    "BranchedKStream",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "Materialized",
    "StreamsBuilder",
    "TimeWindowedKStream",
    "TimeWindows",
    "UnlimitedWindows",
    "ValueTransformer",
    "WindowedStreamPartitioner",
]
