"""The golden topologies in Python, by case name.

Importing this package registers all of them.
"""

from tests.golden.builders import (
    aggregations,
    cache,
    faults,
    joins,
    naming,
    nulls,
    optimizations,
    papi,
    process,
    stateless,
    tables,
    windows,
)
from tests.golden.builders.registry import BUILDERS, DIFFERENT, Build

__all__ = [
    "BUILDERS",
    "DIFFERENT",
    "Build",
    "aggregations",
    "cache",
    "faults",
    "joins",
    "naming",
    "nulls",
    "optimizations",
    "papi",
    "process",
    "stateless",
    "tables",
    "windows",
]
