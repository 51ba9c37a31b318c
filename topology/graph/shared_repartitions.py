"""A rewrite of the logical graph: several repartitions behind one change of keys become one.

Owns which repartitions can share a topic, and where the shared one is placed: directly behind the
change of keys, or behind the merge of streams of which some have changed keys. It must not know
more of steps than they declare.

A repartition looks upward for the step that changed the keys. At a merge it looks up the first
stream before the second (the rule since Kafka 4.3, KAFKA-20264). A step in between that changes
values prevents sharing, because the topic would have other values. If the streams go through more
than one merge, the shared repartition is behind the last one. The JVM refuses such a topology
(docs/differences.md).

Source: JVM `InternalStreamsBuilder.mergeRepartitionTopics`,
`maybeUpdateKeyChangingRepartitionNodeMap`, `getKeyChangingParentNode`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from thalweg.topology.graph.logical import Draft, Graph, StepId
from thalweg.topology.graph.names import topic_repartition_names
from thalweg.topology.graph.steps import Changes, RepartitionStep

Above = Callable[[StepId], Iterable[StepId]]


def share_repartitions(graph: Graph, *, processors_change: bool = False) -> Graph:
    """Makes one repartition of those behind one change of keys. It has the topic of the first.

    Args:
        graph: the graph.
        processors_change: whether steps of the Processor API count as changing what they may
            change. The JVM has them count only if it is told to.
    """
    changes = _Changes(graph, processors_change)
    behind: dict[StepId, list[StepId]] = {
        step: [] for step in _by_priority(graph) if changes.keys(step)
    }
    for step in _by_priority(graph):
        found = graph.steps[step]
        if isinstance(found, RepartitionStep) and found.is_shareable:
            changer = _changer(graph, changes, step)
            if changer is not None:
                behind[changer].append(step)
    draft = Draft(graph)
    renamed: dict[str, str] = {}
    for top, repartitions in _moved_behind_merges(graph, behind).items():
        if repartitions:
            _share(graph, draft, top, repartitions, renamed)
    shared = draft.done()
    demands = tuple(demand.renamed(renamed) for demand in shared.copartitioned)
    return replace(shared, copartitioned=demands)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What steps change."""

    graph: Graph
    processors_change: bool

    def of(self, step: StepId) -> Changes:
        """Returns what a step changes."""
        found = self.graph.steps.get(step)
        changes = Changes.NOTHING if found is None else found.changes
        if Changes.BY_PROCESSOR in changes and not self.processors_change:
            return Changes.NOTHING
        return changes

    def keys(self, step: StepId) -> bool:
        """Tells whether a step changes keys."""
        return Changes.KEY in self.of(step)

    def anything(self, step: StepId) -> bool:
        """Tells whether a step changes keys or values."""
        return bool(self.of(step) & (Changes.KEY | Changes.VALUE))


def _by_priority(graph: Graph) -> list[StepId]:
    return sorted(graph.steps, key=graph.priorities.__getitem__)


def _nearest(start: StepId, above: Above, holds: Callable[[StepId], bool]) -> StepId | None:
    """Returns the first step for which `holds`, from `start` upward: all of a parent, then the next.

    Args:
        start: where to begin; it may be the one.
        above: returns the parents of a step.
        holds: the condition.
    """
    seen: set[StepId] = set()
    left = [start]
    while left:
        step = left.pop()
        if step in seen:
            continue
        if holds(step):
            return step
        seen.add(step)
        left += reversed(tuple(above(step)))
    return None


def _changer(graph: Graph, changes: _Changes, step: StepId) -> StepId | None:
    """Returns the step that changed the keys, None if it or the values were changed behind it."""
    above = _parents_of(graph.parents)
    changer = _nearest(step, above, changes.keys)
    return changer if changer == _nearest(step, above, changes.anything) else None


def _parents_of(parents: Mapping[StepId, tuple[StepId, ...]]) -> Above:
    return lambda step: parents.get(step, ())


def _moved_behind_merges(
    graph: Graph, behind: Mapping[StepId, list[StepId]]
) -> dict[StepId, list[StepId]]:
    """Hands repartitions from changes of keys to the last merge that all of them come through."""
    above = _parents_of(graph.parents)
    merges = [step for step in _by_priority(graph) if graph.steps[step].is_merge]
    stay: dict[StepId, list[StepId]] = {}
    moved: dict[StepId, list[StepId]] = {}
    for changer, repartitions in behind.items():
        last = None
        for merge in merges:
            is_below = _is_below(merge, changer, above)
            if is_below and all(_is_below(one, merge, above) for one in repartitions):
                last = merge
        if last is None:
            stay[changer] = repartitions
        else:
            moved.setdefault(last, []).extend(repartitions)
    return {**stay, **moved}


def _is_below(step: StepId, other: StepId, above: Above) -> bool:
    return _nearest(step, above, lambda one: other in above(one)) is not None


def _share(
    graph: Graph,
    draft: Draft,
    top: StepId,
    repartitions: list[StepId],
    renamed: dict[str, str],
) -> None:
    """Puts one repartition below `top`, and what stood between there and the others below it."""
    replaced = [graph.steps[step] for step in repartitions]
    steps = [step for step in replaced if isinstance(step, RepartitionStep)]
    first = steps[0]
    shared = RepartitionStep(
        names=topic_repartition_names(first.names.topic),
        key_serde=next((step.key_serde for step in steps if step.key_serde is not None), None),
        value_serde=next(
            (step.value_serde for step in steps if step.value_serde is not None), None
        ),
        hint=first.hint,
    )
    # With the priority of `top` it is written before all that is below it.
    added = draft.add(shared, graph.priorities[top])
    for repartition, step in zip(repartitions, steps, strict=True):
        child = _nearest(repartition, draft.parents, lambda one: top in draft.parents(one))
        if child is None:  # it stands below the shared one already
            child = _nearest(repartition, draft.parents, lambda one: added in draft.parents(one))
        assert child is not None
        draft.link(added, child)
        draft.unlink(top, child)
        parents = draft.parents(repartition)
        for below in draft.children(repartition):
            for parent in parents:
                draft.link(parent, below)
        draft.remove(repartition)
        renamed[step.name] = shared.name
    draft.link(top, added)
