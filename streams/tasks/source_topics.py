"""Which topics the tasks of an application read, and how many partitions these have.

Owns the request to the log. `topology.pattern_topics` decides which topics a pattern may not read.
It must not know tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.streams.transport.port import Transport
from thalweg.topology.pattern_topics import unfit_topics
from thalweg.topology.subtopologies import Subtopology


@dataclass(frozen=True, slots=True)
class SourceTopics:
    """The topics around some subtopologies, as the log has them at one moment.

    Attributes:
        counts: topic -> partition count, of those that are read and exist. Beside a source by
            pattern the changelogs of its stores stand here, too: they bound its tasks.
        unfit: topic that a pattern matches and that cannot be read -> the reason, a sentence.
    """

    counts: Mapping[str, int]
    unfit: Mapping[str, str] = field(default_factory=dict)

    def read_by(self, part: Subtopology) -> Iterator[str]:
        """Yields the topics that a subtopology reads, those that do not exist among them."""
        yield from part.source_topics
        for topic in part.repartition_source_topics:
            yield topic.name
        if part.source_patterns:
            yield from filter(part.matches, self.counts)


def source_topics(parts: Sequence[Subtopology], transport: Transport) -> SourceTopics:
    """Asks the log for the topics that subtopologies read.

    Args:
        parts: the subtopologies, all of the application where one has a pattern.
        transport: the log.
    """
    local = [part for part in parts if not part.is_global]
    names = {
        name
        for part in local
        for name in (*part.source_topics, *(t.name for t in part.repartition_source_topics))
    }
    if not any(part.source_patterns for part in local):
        return SourceTopics(transport.partition_counts(names))
    changelogs = {topic.name for part in local for topic in part.state_changelog_topics}
    matched = [topic for topic in transport.topics() if any(part.matches(topic) for part in local)]
    known = transport.partition_counts({*names, *changelogs, *matched})
    unfit = unfit_topics(local, known)
    return SourceTopics(
        {topic: count for topic, count in known.items() if topic not in unfit}, unfit
    )
