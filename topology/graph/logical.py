"""The graph of steps: as a value, and as it grows call by call.

Owns the edges between steps, and the order of steps, which determines the subtopology numbers. It
must not know what steps add.

Source: JVM `InternalStreamsBuilder.addGraphNode`, `buildAndOptimizeTopology`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.facts import NotedFacts
from thalweg.topology.graph.names import Names
from thalweg.topology.graph.steps import AnyStep

StepId: TypeAlias = int
ROOT: Final[StepId] = -1
"""What the sources are below."""


@dataclass(frozen=True, slots=True)
class Copartition:
    """A demand for equal partition counts of the topics of some sources.

    Attributes:
        sources: the source nodes.
        instead: those to take if the sources are not all in one subtopology. None demands it of
            the sources in any case.
    """

    sources: tuple[str, ...]
    instead: tuple[str, ...] | None = None

    def renamed(self, names: Mapping[str, str]) -> Copartition:
        """Returns the demand for sources that have other names now."""
        return Copartition(
            _renamed(self.sources, names),
            None if self.instead is None else _renamed(self.instead, names),
        )


def _renamed(sources: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names.get(source, source) for source in sources))


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps and their edges; a rewrite makes a new one.

    Attributes:
        steps: the steps.
        children: step -> what is below it, in the order added; of `ROOT`, too.
        parents: step -> what it is below, in the order added.
        priorities: step -> its place in the order of calls.
        copartitioned: demands for equal partition counts.
    """

    steps: Mapping[StepId, AnyStep]
    children: Mapping[StepId, tuple[StepId, ...]]
    parents: Mapping[StepId, tuple[StepId, ...]]
    priorities: Mapping[StepId, int]
    copartitioned: tuple[Copartition, ...] = ()

    def in_order(self) -> list[StepId]:
        """Returns the steps by priority, but none before its parents."""
        reached: dict[StepId, None] = {ROOT: None}
        queue = [(self.priorities[child], child) for child in self.children[ROOT]]
        heapq.heapify(queue)
        while queue:
            _, step = heapq.heappop(queue)
            if step in reached or any(parent not in reached for parent in self.parents[step]):
                continue
            reached[step] = None
            for child in self.children[step]:
                heapq.heappush(queue, (self.priorities[child], child))
        del reached[ROOT]
        return list(reached)

    def parent_names(self, step: StepId) -> tuple[str, ...]:
        """Returns the names of a step's parents."""
        return tuple(self.steps[parent].name for parent in self.parents[step] if parent != ROOT)


class Draft:
    """A graph that a rewrite is changing. Steps and edges keep the order they were added in."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._steps = dict(graph.steps)
        self._children = {step: dict.fromkeys(below) for step, below in graph.children.items()}
        self._parents = {step: dict.fromkeys(above) for step, above in graph.parents.items()}
        self._priorities = dict(graph.priorities)

    def children(self, step: StepId) -> tuple[StepId, ...]:
        """Returns what is below a step."""
        return tuple(self._children[step])

    def parents(self, step: StepId) -> tuple[StepId, ...]:
        """Returns what a step is below; nothing of the root."""
        return tuple(self._parents.get(step, ()))

    def add(self, step: AnyStep, priority: int) -> StepId:
        """Adds a step without edges."""
        added = max(self._steps) + 1
        self._steps[added] = step
        self._children[added] = {}
        self._parents[added] = {}
        self._priorities[added] = priority
        return added

    def replace(self, step: StepId, by: AnyStep) -> None:
        """Puts another step in the place of one."""
        self._steps[step] = by

    def link(self, parent: StepId, child: StepId) -> None:
        """Puts a step below another."""
        self._children[parent][child] = None
        self._parents[child][parent] = None

    def unlink(self, parent: StepId, child: StepId) -> None:
        """Takes a step away from below another, if it is there."""
        self._children[parent].pop(child, None)
        self._parents[child].pop(parent, None)

    def remove(self, step: StepId) -> None:
        """Takes a step away with its edges."""
        for parent in self.parents(step):
            self.unlink(parent, step)
        for child in self.children(step):
            self.unlink(step, child)
        del self._steps[step], self._children[step], self._parents[step], self._priorities[step]

    def done(self) -> Graph:
        """Returns the graph that came out."""
        return Graph(
            self._steps,
            {step: tuple(below) for step, below in self._children.items()},
            {step: tuple(above) for step, above in self._parents.items()},
            self._priorities,
            self._graph.copartitioned,
        )


class LogicalGraph:
    """The graph of one builder as it grows, with the names and facts that its calls settle."""

    def __init__(self) -> None:
        self.names = Names()
        self.facts = NotedFacts()
        self._steps: dict[StepId, AnyStep] = {}
        # Dicts as ordered sets: a step may be added below a parent twice and counts once.
        self._children: dict[StepId, dict[StepId, None]] = {ROOT: {}}
        self._parents: dict[StepId, dict[StepId, None]] = {}
        self._priorities: dict[StepId, int] = {}
        self._next_priority = 0
        self._copartitioned: list[Copartition] = []

    def add(self, step: AnyStep, *parents: StepId) -> StepId:
        """Puts a new step below its parents, or below the root."""
        added = len(self._steps)
        self._steps[added] = step
        self._children[added] = {}
        self._parents[added] = {}
        self.put_below(added, *parents)
        return added

    def put_below(self, step: StepId, *parents: StepId) -> None:
        """Puts a step below more parents; its place in the order is now behind all others."""
        for parent in parents or (ROOT,):
            self._children[parent][step] = None
            self._parents[step][parent] = None
            self._priorities[step] = self._next_priority
            self._next_priority += 1

    def copartition(self, sources: Iterable[str], instead: Iterable[str] | None = None) -> None:
        """Demands equal partition counts of the topics of these source nodes; see `Copartition`."""
        others = None if instead is None else tuple(dict.fromkeys(instead))
        self._copartitioned.append(Copartition(tuple(dict.fromkeys(sources)), others))

    def step(self, step: StepId) -> AnyStep:
        """Returns a step by its number."""
        return self._steps[step]

    def above(self, step: StepId) -> tuple[StepId, ...]:
        """Returns the steps that a step is below, as yet."""
        return tuple(parent for parent in self._parents[step] if parent != ROOT)

    def snapshot(self) -> Graph:
        """Returns the graph as it is now."""
        return Graph(
            dict(self._steps),
            {step: tuple(children) for step, children in self._children.items()},
            {step: tuple(parents) for step, parents in self._parents.items()},
            dict(self._priorities),
            tuple(self._copartitioned),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the graph a stream or table stands, so where its next operation goes.

    Attributes:
        graph: the graph.
        name: name of the processor whose output this is.
        step: the step of that processor.
        sources: the source nodes above it in its subtopology, for copartitioning.
    """

    graph: LogicalGraph
    name: str
    step: StepId
    sources: tuple[str, ...]

    @property
    def names(self) -> Names:
        """Makes the names of the graph's nodes."""
        return self.graph.names

    def then(self, step: AnyStep) -> Place:
        """Puts a step below this place and returns the place of that step."""
        return Place(self.graph, step.name, self.graph.add(step, self.step), self.sources)

    def copartition_with(self, other: Place) -> tuple[str, ...]:
        """Demands equal partition counts here and there; returns the sources of both."""
        self.refuse_foreign(other)
        both = tuple(dict.fromkeys(self.sources + other.sources))
        self.graph.copartition(both)
        return both

    def refuse_foreign(self, other: Place) -> None:
        """Refuses a place of another builder.

        Raises:
            TopologyError: it is one.
        """
        if other.graph is not self.graph:
            raise TopologyError(
                f"{self.name} and {other.name} belong to different builders; make both with one",
                node=self.name,
            )
