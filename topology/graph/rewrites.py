"""Rewrites of the logical graph. Each takes a graph and gives a graph.

Owns two rewrites that every build needs: sources of the same topics become one, and repartitions in
front of left joins let null keys through. It also owns one optional rewrite: a stream that is
joined with itself needs one window store. Shared repartition topics are in `shared_repartitions`.

Source: JVM `InternalStreamsBuilder.mergeDuplicateSourceNodes`,
`rewriteRepartitionNodes` (KIP-962), `rewriteSingleStoreSelfJoin`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.logical import ROOT, Draft, Graph, StepId
from thalweg.topology.graph.steps import AddSource, RepartitionStep, SourceStep, Step


def merge_sources(graph: Graph) -> Graph:
    """Makes one source of those that read the same topics.

    Raises:
        TopologyError: two of them overlap without being equal, or start at different places.
    """
    by_pattern: dict[tuple[str, int], StepId] = {}
    by_topic: dict[str, StepId] = {}
    into: dict[StepId, StepId] = {}
    for step in graph.children[ROOT]:
        source = _source(graph, step)
        if source is None:
            continue
        topics = source.topics
        if isinstance(topics, re.Pattern):
            first = by_pattern.setdefault((topics.pattern, topics.flags), step)
        else:
            first = step
            for topic in topics:
                first = by_topic.setdefault(topic, step)
                if first != step:
                    break
        if first != step:
            other = _source(graph, first)
            assert other is not None
            _check_mergeable(other, source)
            into[step] = first
    return _merged(graph, into) if into else graph


def _source(graph: Graph, step: StepId) -> AddSource | None:
    found = graph.steps[step]
    return found.source if isinstance(found, SourceStep) else None


def _check_mergeable(first: AddSource, second: AddSource) -> None:
    known, topics = first.topics, second.topics
    if not (
        isinstance(known, re.Pattern) or isinstance(topics, re.Pattern) or set(topics) == set(known)
    ):
        raise TopologyError(
            f"sources {first.name} and {second.name} are subscribed to overlapping but "
            f"not equal input topics, {sorted(known)} and {sorted(topics)}; "
            "read each topic in a stream of its own and merge the streams",
            node=second.name,
        )
    if first.offset_reset != second.offset_reset:
        raise TopologyError(
            f"sources {first.name} and {second.name} read the same topics with different "
            f"offset resets, {first.offset_reset} and {second.offset_reset}; use one of them",
            node=second.name,
        )


def _merged(graph: Graph, into: dict[StepId, StepId]) -> Graph:
    """Hands the children of each merged source to the source it is merged into."""
    draft = Draft(graph)
    for gone, first in into.items():
        for child in draft.children(gone):
            draft.unlink(gone, child)
            draft.link(first, child)
        draft.remove(gone)
    return draft.done()


def let_null_keys_through(graph: Graph) -> Graph:
    """Makes repartitions ahead of left joins keep records without a key; all others drop them."""
    steps = dict(graph.steps)
    needed: dict[StepId, bool] = {}
    for step in reversed(graph.in_order()):
        needed[step] = any(
            graph.steps[child].takes_null_keys or needed[child] for child in graph.children[step]
        )
        found = steps[step]
        if isinstance(found, RepartitionStep):
            steps[step] = replace(found, drops_null_keys=not needed[step])
    return replace(graph, steps=steps)


def single_store_self_joins(graph: Graph) -> Graph:
    """Gives a stream that is joined with itself one window store in place of two."""
    draft = Draft(graph)
    for step, found in graph.steps.items():
        if not isinstance(found, Step) or found.self_join is None or len(graph.parents[step]) > 1:
            continue
        (stream,) = graph.parents[step]
        windows = {graph.steps[child].name: child for child in graph.children[stream]}
        draft.remove(windows[found.self_join.right_window])
        draft.replace(step, replace(found, adds=found.self_join.adds))
    return draft.done()
