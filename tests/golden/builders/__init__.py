"""The golden topologies in Python, by case name.

Importing this package registers all of them.
"""

from tests.golden.builders import (
    aggregations,
    cache,
    cogroups,
    dsl_stores,
    faults,
    foreign_keys,
    global_tables,
    headers,
    joins,
    naming,
    nulls,
    optimizations,
    papi,
    process,
    sessions,
    stateless,
    stream_joins,
    suppress,
    tables,
    versioned,
    windows,
)
from tests.golden.builders.registry import BUILDERS, DESCRIBED, DIFFERENT, Build

__all__ = [
    "BUILDERS",
    "DESCRIBED",
    "DIFFERENT",
    "Build",
    "aggregations",
    "cache",
    "cogroups",
    "dsl_stores",
    "faults",
    "foreign_keys",
    "global_tables",
    "headers",
    "joins",
    "naming",
    "nulls",
    "optimizations",
    "papi",
    "process",
    "sessions",
    "stateless",
    "stream_joins",
    "suppress",
    "tables",
    "versioned",
    "windows",
]
