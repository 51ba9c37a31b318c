"""Which function builds which golden case.

Owns the table of builders and the serdes they name. A builder of the DSL is handed a
`StreamsBuilder`, one of the Processor API a `Topology`; either has the name of its case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from thalweg.stores.serde import serdes
from thalweg.topology.dsl import StreamsBuilder
from thalweg.topology.physical import Topology

Build = Callable[[Mapping[str, Any]], Topology]
"""Builds the topology of a case under a configuration by the JVM's names."""

BUILDERS: dict[str, Build] = {}

DIFFERENT: dict[str, str] = {}
"""Cases in which we differ on purpose: case -> the sentence of docs/differences.md about it."""

DESCRIBED: dict[str, str] = {}
"""Cases that the JVM cannot describe to a broker, as `DIFFERENT`; here their description is valid."""

# As in Topologies.java; string is the application's default for keys and values.
S = serdes.string
L = serdes.int64
I = serdes.int32  # noqa: E741 - the name it has there
D = serdes.float64


def dsl_case(describe: Callable[[StreamsBuilder], None]) -> Callable[[StreamsBuilder], None]:
    """Registers a case of the DSL under the function's name."""

    def build(config: Mapping[str, Any]) -> Topology:
        builder = StreamsBuilder()
        describe(builder)
        return builder.build(config)

    _register(describe.__name__, build)
    return describe


def papi_case(describe: Callable[[Topology], None]) -> Callable[[Topology], None]:
    """Registers a case of the Processor API under the function's name."""

    def build(_config: Mapping[str, Any]) -> Topology:
        topology = Topology()
        describe(topology)
        return topology

    _register(describe.__name__, build)
    return describe


DslCase = Callable[[StreamsBuilder], None]


def different_case(sentence: str) -> Callable[[DslCase], DslCase]:
    """Marks a case that is not compared: there is a reason, in docs/differences.md.

    Args:
        sentence: what stands there.
    """
    return _noted(DIFFERENT, sentence)


def different_description(sentence: str) -> Callable[[DslCase], DslCase]:
    """Marks a case whose subtopologies are not compared; see `different_case`."""
    return _noted(DESCRIBED, sentence)


def _noted(notes: dict[str, str], sentence: str) -> Callable[[DslCase], DslCase]:
    def mark(describe: DslCase) -> DslCase:
        notes[describe.__name__] = sentence
        return describe

    return mark


def _register(name: str, build: Build) -> None:
    if name in BUILDERS:
        raise ValueError(f"golden case {name} has two builders")
    BUILDERS[name] = build
