"""Which topics a source by pattern can read: those that fit what is there already.

Owns the rules by which a topic that matches a pattern is refused. It is pure: counts are arguments.
It must not know who reads the topics, nor who is told of a refusal.

A topic is refused, and every other one is read, where

* two patterns match it: a record belongs to one source, as in the JVM;
* it has more partitions than the changelogs of the subtopology: each task restores its stores
  from the partition of its own number;
* it is joined by partition with topics that have another partition count.

The application's own internal topics are never matched: it would read what it has written.

Source: JVM `SourceNodeFactory.getTopics`, `InternalTopicManager.validateTopics`,
`CopartitionedTopicsEnforcer`. The JVM fails for what is refused here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from thalweg.topology.subtopologies import (
    CopartitionedSources,
    Subtopology,
    changelog_counts,
    partitions_text,
)


def unfit_topics(
    parts: Sequence[Subtopology], partition_counts: Mapping[str, int]
) -> dict[str, str]:
    """Returns the topics that patterns match and that cannot be read, each with the reason.

    Args:
        parts: the subtopologies.
        partition_counts: topic -> its partition count, for every topic that exists.

    Returns:
        Topic -> a sentence for people, which names the topic and the remedy.
    """
    unfit = dict(_matched_twice(parts, partition_counts))
    for part in parts:
        matched = _matched(part, partition_counts, unfit)
        unfit.update(_beyond_the_changelogs(part, matched, partition_counts))
        matched = _matched(part, partition_counts, unfit)
        unfit.update(_not_copartitioned(part, matched, partition_counts))
    return unfit


def _matched(
    part: Subtopology, partition_counts: Mapping[str, int], unfit: Collection[str]
) -> dict[str, int]:
    """Returns the counts of the topics that a subtopology's patterns match, by name."""
    return {
        topic: count
        for topic, count in sorted(partition_counts.items())
        if topic not in unfit and part.matches(topic)
    }


def _matched_twice(
    parts: Sequence[Subtopology], topics: Iterable[str]
) -> Iterator[tuple[str, str]]:
    for topic in topics:
        patterns = [
            pattern.pattern
            for part in parts
            if part.matches(topic)
            for pattern in part.source_patterns
            if pattern.fullmatch(topic)
        ]
        if len(patterns) > 1:
            shown = " and ".join(map(repr, patterns))
            reason = (
                f"topic {topic!r} is not read: the patterns {shown} match it, and a topic can "
                "have one source only; narrow the patterns"
            )
            yield topic, reason


def _beyond_the_changelogs(
    part: Subtopology, matched: Mapping[str, int], partition_counts: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    changelogs = changelog_counts(part, partition_counts)
    if not changelogs:
        return
    changelog = min(changelogs, key=lambda name: (changelogs[name], name))
    most = changelogs[changelog]
    for topic, count in matched.items():
        if count > most:
            reason = (
                f"topic {topic!r} is not read: it has {partitions_text(count)}, and the changelog "
                f"{changelog!r} of the source's stores has {most}; recreate the topic with at "
                f"most {partitions_text(most)}, or stop the application and run `thalweg reset`, "
                "which deletes its changelogs: it then begins anew with all topics"
            )
            yield topic, reason


def _not_copartitioned(
    part: Subtopology, matched: Mapping[str, int], partition_counts: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    for group in part.copartitioned_patterns:
        joined = {topic: count for topic, count in matched.items() if group.matches(topic)}
        partner, right = _right_count(part, group, joined, partition_counts)
        for topic, count in joined.items():
            if count != right:
                reason = (
                    f"topic {topic!r} is not read: it has {partitions_text(count)}, and topics that "
                    f"are joined by partition need as many as {partner!r}, which has {right}; "
                    f"recreate the topic with {partitions_text(right)}, or repartition() the stream"
                )
                yield topic, reason


def _right_count(
    part: Subtopology,
    group: CopartitionedSources,
    joined: Mapping[str, int],
    partition_counts: Mapping[str, int],
) -> tuple[str, int]:
    """Returns the count that topics of a group must have, and a topic that has it."""
    fixed = {topic.name: topic.partitions for topic in part.repartition_source_topics}
    for topic in group.topics:
        count = fixed.get(topic) or partition_counts.get(topic)
        if count:
            return topic, count
    if not joined:
        return "", 0
    # Nothing else decides: the count that most of them have, then that of the first by name.
    frequent = Counter(joined.values())
    right = max(joined.values(), key=lambda count: frequent[count])
    return next(topic for topic, count in joined.items() if count == right), right
