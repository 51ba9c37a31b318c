"""The DSL: streams and tables, from which a topology is built.

Source: JVM `org.apache.kafka.streams.kstream`.
"""

from thalweg.topology.dsl.builder import StreamsBuilder
from thalweg.topology.dsl.grouped import KGroupedStream
from thalweg.topology.dsl.grouped_table import KGroupedTable
from thalweg.topology.dsl.options import Materialized
from thalweg.topology.dsl.stream import BranchedKStream, KStream
from thalweg.topology.dsl.table import KTable, ValueTransformer
from thalweg.topology.dsl.windowed import TimeWindowedKStream
from thalweg.topology.dsl.windows import TimeWindows, UnlimitedWindows, WindowedStreamPartitioner

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
