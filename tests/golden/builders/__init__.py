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
    papi,
    process,
    sessions,
    stateless,
    tables,
    windows,
)
from tests.golden.builders.registry import BUILDERS, Build

__all__ = [
    "BUILDERS",
    "Build",
    "aggregations",
    "cache",
    "faults",
    "joins",
    "naming",
    "nulls",
    "papi",
    "process",
    "sessions",
    "stateless",
    "tables",
    "windows",
]
