"""The DSL: streams and tables, from which a topology is built.

Source: JVM `org.apache.kafka.streams.kstream`.
"""

from thalweg.topology.dsl.branched import BranchedKStream
from thalweg.topology.dsl.builder import StreamsBuilder
from thalweg.topology.dsl.cogrouped import CogroupedKStream, TimeWindowedCogroupedKStream
from thalweg.topology.dsl.grouped import KGroupedStream, KGroupedTable, TimeWindowedKStream
from thalweg.topology.dsl.options import Materialized
from thalweg.topology.dsl.stream import KStream
from thalweg.topology.dsl.table import KTable, ValueTransformer
from thalweg.topology.dsl.windows import TimeWindows, UnlimitedWindows, WindowedStreamPartitioner

__all__ = [
    "BranchedKStream",
    "CogroupedKStream",
    "KGroupedStream",
    "KGroupedTable",
    "KStream",
    "KTable",
    "Materialized",
    "StreamsBuilder",
    "TimeWindowedCogroupedKStream",
    "TimeWindowedKStream",
    "TimeWindows",
    "UnlimitedWindows",
    "ValueTransformer",
    "WindowedStreamPartitioner",
]
