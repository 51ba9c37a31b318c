"""What a topology demands of its topics: its subtopologies, and partition counts.

Owns the names and configs of internal topics, the copartition groups as they are sent to a broker,
and the broker's rules for partition counts, for transports without a broker. It must not know
whether a topic exists: counts are arguments.

Source: JVM `InternalTopologyBuilder.subtopologyToTopicsInfo`, `copartitionGroups`, the
classes `*TopicConfig`, `RepartitionTopics`; kip1071 reference 5.3 and 6, kafka-streams
reference A13.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from thalweg.topology.errors import TopologyError
from thalweg.topology.java_order import group_order, set_order
from thalweg.topology.physical import (
    ProcessorNode,
    SinkNode,
    SourceNode,
    Topology,
)

_DAY_MS: Final = 24 * 60 * 60 * 1000
_BROKERS_CHOICE: Final = -1
_INTERNAL_CONFIGS: Final[Mapping[str, str]] = {"message.timestamp.type": "CreateTime"}
_REPARTITION_CONFIGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "segment.bytes": "52428800",
    "retention.ms": "-1",
}
# What a store needs wins over the application's `topic.*`, though not over its own log config.
_NEEDED_BY_STORE: Final = ("retention.ms", "min.compaction.lag.ms")
_LEGAL_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class TopologyConfig:
    """The part of an application's configuration that shapes its internal topics.

    Attributes:
        application_id: comes before the names of internal topics.
        topic_configs: configs of all internal topics (the JVM's `topic.*`).
        replication_factor: of all internal topics; -1 leaves it to the broker.
        window_changelog_additional_retention_ms: how much longer than its store the changelog
            of a window store keeps records.
    """

    application_id: str
    topic_configs: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int = _BROKERS_CHOICE
    window_changelog_additional_retention_ms: int = _DAY_MS


@dataclass(frozen=True, slots=True)
class InternalTopic:
    """A topic that the runtime or a broker creates.

    Attributes:
        name: its name in the log.
        partitions: the fixed partition count; 0 where it follows from other topics.
        replication_factor: -1 leaves it to the broker.
        configs: its configs, sorted by name.
    """

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CopartitionGroup:
    """Source topics of one subtopology that need equal partition counts.

    Attributes:
        source_topics: those of users, in the JVM's order, which a broker compares.
        repartition_source_topics: the internal ones, likewise.
    """

    source_topics: tuple[str, ...]
    repartition_source_topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CopartitionedSources:
    """Sources by pattern of one subtopology, and what they are joined with by partition.

    A broker is not told of them: it knows no patterns.

    Attributes:
        patterns: their patterns; the topics they match need equal partition counts.
        topics: the topics of the other sources, which decide the count where they exist.
    """

    patterns: tuple[re.Pattern[str], ...]
    topics: tuple[str, ...]

    def matches(self, topic: str) -> bool:
        """Tells whether one of the patterns matches a topic as a whole."""
        return any(pattern.fullmatch(topic) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Subtopology:
    """A part of the graph that tasks run, one per partition of its sources.

    Attributes:
        id: its number in the topology.
        node_names: in the order they were added, so parents first.
        source_topics: topics of users that it reads, sorted.
        source_patterns: patterns of further topics, in the order they were added.
        repartition_source_topics: internal topics that it reads, sorted by name.
        repartition_sink_topics: internal topics that it writes, sorted.
        state_changelog_topics: changelogs of its stores, sorted by name. A source topic that a
            store is restored from is among them, under its own name.
        copartition_groups: in the JVM's order.
        copartitioned_patterns: its sources by pattern that are joined by partition.
        unmatched_topics: internal topics of the application, which its patterns never match:
            it would read what it has written.
        stores: in the order in which a task opens them, and flushes them.
        is_global: whether this is a global store; no task runs it, and it has nothing of the
            above but nodes, source topic and store.
    """

    id: int
    node_names: tuple[str, ...]
    source_topics: tuple[str, ...]
    source_patterns: tuple[re.Pattern[str], ...] = ()
    repartition_source_topics: tuple[InternalTopic, ...] = ()
    repartition_sink_topics: tuple[str, ...] = ()
    state_changelog_topics: tuple[InternalTopic, ...] = ()
    copartition_groups: tuple[CopartitionGroup, ...] = ()
    copartitioned_patterns: tuple[CopartitionedSources, ...] = ()
    unmatched_topics: frozenset[str] = frozenset()
    stores: tuple[str, ...] = ()
    is_global: bool = False

    @property
    def source_topic_regex(self) -> tuple[str, ...]:
        """The patterns as text, as a broker is told them."""
        return tuple(pattern.pattern for pattern in self.source_patterns)

    def matches(self, topic: str) -> bool:
        """Tells whether one of its patterns matches a topic as a whole."""
        return topic not in self.unmatched_topics and any(
            pattern.fullmatch(topic) for pattern in self.source_patterns
        )


def subtopologies(topology: Topology, config: TopologyConfig) -> list[Subtopology]:
    """Returns the subtopologies by number, global stores among them.

    Raises:
        TopologyError: an internal topic's name is illegal, or topics that are to have equal
            partition counts belong to different subtopologies.
    """
    names = topic_names(topology, config.application_id)
    whole = _Whole(topology, config, names, _copartition_groups(topology, names))
    return [whole.part(number, nodes) for number, nodes in enumerate(topology.groups())]


def topic_names(topology: Topology, application_id: str) -> dict[str, str]:
    """Returns name in the topology -> name in the log, for every internal topic."""
    return {
        name: _legal(f"{application_id}-{name}", "repartition topic")
        for name in topology.internal_topics
    }


def changelog_topics(topology: Topology, application_id: str) -> dict[str, str]:
    """Returns store -> topic it is restored from, for every store that has one.

    Global stores are restored from their source topic, as are others that were told to.
    """
    names = topic_names(topology, application_id)
    topics = {store: names.get(topic, topic) for store, topic in topology.store_topics.items()}
    for name, builder in topology.stores.items():
        if builder.logged and name not in topics:
            topics[name] = _legal(f"{application_id}-{name}-changelog", "changelog")
    return topics


def stores_in_order(topology: Topology, node_names: Iterable[str]) -> tuple[str, ...]:
    """Returns the stores of these nodes in the order in which a JVM task opens them."""
    stores: dict[str, None] = {}
    for name in node_names:
        node = topology.nodes[name]
        if isinstance(node, ProcessorNode):
            stores.update(dict.fromkeys(set_order(node.stores)))
    return tuple(stores)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What all subtopologies of a topology have in common."""

    topology: Topology
    config: TopologyConfig
    names: Mapping[str, str]
    groups: Sequence[Collection[str]]

    def part(self, number: int, nodes: tuple[str, ...]) -> Subtopology:
        external: set[str] = set()
        repartitions: dict[str, InternalTopic] = {}
        sinks: set[str] = set()
        patterns = []
        for name in nodes:
            node = self.topology.nodes[name]
            if isinstance(node, SinkNode) and node.topic is not None and node.topic in self.names:
                sinks.add(self.names[node.topic])
            elif isinstance(node, SourceNode):
                if node.pattern is not None:
                    patterns.append(node.pattern)
                for topic in node.topics:
                    if topic in self.names:
                        repartitions[self.names[topic]] = self.repartition(topic)
                    else:
                        external.add(topic)
        stores = stores_in_order(self.topology, nodes)
        sources = tuple(sorted(external))
        if self.topology.is_global(nodes[0]):
            return Subtopology(number, nodes, sources, stores=stores, is_global=True)
        return Subtopology(
            id=number,
            node_names=nodes,
            source_topics=sources,
            source_patterns=tuple(patterns),
            repartition_source_topics=_by_name(repartitions.values()),
            repartition_sink_topics=tuple(sorted(sinks)),
            state_changelog_topics=_by_name(self.changelogs(stores)),
            copartition_groups=tuple(
                _groups_within(number, external, repartitions.keys(), self.groups)
            ),
            copartitioned_patterns=tuple(_copartitioned_patterns(self.topology, self.names, nodes)),
            unmatched_topics=self.internal_topics() if patterns else frozenset(),
            stores=stores,
        )

    def internal_topics(self) -> frozenset[str]:
        changelogs = changelog_topics(self.topology, self.config.application_id)
        return frozenset((*self.names.values(), *changelogs.values()))

    def repartition(self, name: str) -> InternalTopic:
        configs = {**_INTERNAL_CONFIGS, **_REPARTITION_CONFIGS, **self.config.topic_configs}
        return self._topic(self.names[name], configs, self.topology.internal_topics[name] or 0)

    def changelogs(self, stores: Iterable[str]) -> Iterator[InternalTopic]:
        topics = changelog_topics(self.topology, self.config.application_id)
        additional_ms = self.config.window_changelog_additional_retention_ms
        for name in stores:
            if name not in topics:
                continue
            builder = self.topology.stores[name]
            own, needed = builder.log_config, builder.changelog_config(additional_ms)
            configs = {**_INTERNAL_CONFIGS, **needed, **self.config.topic_configs, **own}
            for key in _NEEDED_BY_STORE:
                if key in needed and key not in own:
                    configs[key] = needed[key]
            yield self._topic(topics[name], configs)

    def _topic(self, name: str, configs: Mapping[str, str], partitions: int = 0) -> InternalTopic:
        by_key = {key: str(configs[key]) for key in sorted(configs)}
        return InternalTopic(name, partitions, self.config.replication_factor, by_key)


def _by_name(topics: Iterable[InternalTopic]) -> tuple[InternalTopic, ...]:
    return tuple(sorted(topics, key=lambda topic: topic.name))


def _legal(name: str, kind: str) -> str:
    if not _LEGAL_TOPIC.fullmatch(name):
        raise TopologyError(
            f"{name!r} is not a legal topic name for a {kind}; use letters, digits, '.', '_' and "
            "'-' in application_id and names of stores and repartitions, 249 in all",
            topic=name,
        )
    return name


# -- copartition groups --------------------------------------------------------------------


def _copartition_groups(topology: Topology, names: Mapping[str, str]) -> list[Collection[str]]:
    """Returns all groups of topics in the order of the JVM's set of sets.

    Demands that share a topic make one group, though of two groups already made only one
    grows: the JVM does not unite them.
    """
    group_of: dict[str, dict[str, None]] = {}
    for sources in topology.copartitioned:
        demanded = [
            names.get(topic, topic)
            for source in set_order(sources, copied=True)
            for topic in topology.source_topics(source)
        ]
        topics = set_order(demanded)
        found = (group_of[topic] for topic in topics if topic in group_of)
        group = next(found, None)
        group = {} if group is None else group
        group.update(dict.fromkeys(topics))
        group_of.update(dict.fromkeys(topics, group))
    distinct = {frozenset(group): group for group in group_of.values()}
    return [set_order(group) for group in group_order(list(distinct.values()), len(group_of))]


def _groups_within(
    number: int,
    external: Collection[str],
    internal: Collection[str],
    groups: Sequence[Collection[str]],
) -> Iterator[CopartitionGroup]:
    for group in groups:
        own = [topic for topic in group if topic in external or topic in internal]
        if not own:
            continue
        if len(own) < len(group):
            foreign = [topic for topic in group if topic not in own]
            raise TopologyError(
                f"topics {', '.join(own)} of subtopology {number} are to have as many partitions "
                f"as {', '.join(foreign)} of another one; only topics read by one subtopology can "
                "be copartitioned"
            )
        yield CopartitionGroup(
            tuple(topic for topic in own if topic in external),
            tuple(topic for topic in own if topic in internal),
        )


def _copartitioned_patterns(
    topology: Topology, names: Mapping[str, str], nodes: Collection[str]
) -> Iterator[CopartitionedSources]:
    """Returns the groups of sources with a pattern among them; what shares a source is one."""
    groups: list[set[str]] = []
    for demanded in topology.copartitioned:
        group = {source for source in demanded if source in nodes}
        for other in [one for one in groups if one & group]:
            groups.remove(other)
            group |= other
        groups.append(group)
    for group in groups:
        sources = [topology.nodes[name] for name in nodes if name in group]
        read = [one for one in sources if isinstance(one, SourceNode)]
        patterns = tuple(one.pattern for one in read if one.pattern is not None)
        topics = [names.get(topic, topic) for one in read for topic in one.topics]
        if patterns:
            yield CopartitionedSources(patterns, tuple(sorted(topics)))


# -- partition counts ----------------------------------------------------------------------


def copartition_problems(
    parts: Iterable[Subtopology], partition_counts: Mapping[str, int]
) -> list[str]:
    """Returns what forbids to join topics by partition, a sentence each.

    Args:
        parts: the subtopologies.
        partition_counts: topic -> its partition count, for the topics of users that exist.
    """
    problems = []
    for part in parts:
        fixed = _fixed_counts(part)
        for group in part.copartition_groups:
            counts = {
                topic: partition_counts[topic]
                for topic in group.source_topics
                if topic in partition_counts
            }
            for topic in group.repartition_source_topics:
                if topic in fixed:
                    counts[topic] = fixed[topic]
            if len(set(counts.values())) > 1:
                shown = ", ".join(f"{topic}: {count}" for topic, count in sorted(counts.items()))
                problems.append(
                    f"subtopology {part.id} joins topics by partition, which need the same number "
                    f"of partitions ({shown}); recreate a topic or repartition() a stream"
                )
    return problems


def internal_topic_partitions(
    parts: Iterable[Subtopology], partition_counts: Mapping[str, int]
) -> dict[str, int]:
    """Returns internal topic -> partition count, for all repartition topics and changelogs.

    A repartition topic has its fixed count, or the most partitions of what its writers read;
    but in a copartition group it has what the group's topics of users have. A changelog has
    as many as its subtopology has tasks.

    What follows from topics that a pattern is still to match is left out. What followed from
    such topics before keeps its count, for these topics come and go.

    Args:
        parts: the subtopologies.
        partition_counts: topic -> its partition count, for the topics of users that exist, and
            for internal ones of the application, which matter behind a source by pattern.

    Raises:
        TopologyError: a source topic does not exist, counts that must agree do not, or
            repartition topics only follow from each other.
    """
    local = [part for part in parts if not part.is_global]
    _check_exist(local, partition_counts)
    problems = copartition_problems(local, partition_counts)
    if problems:
        raise TopologyError("; ".join(problems))
    internal = {topic.name for part in local for topic in part.repartition_source_topics}
    kept = _behind_patterns(local)
    counts = {
        name: count
        for name, count in partition_counts.items()
        if name not in internal or name in kept
    }
    for part in local:
        counts.update(_fixed_counts(part))
    _follow_writers(local, counts, internal, kept)
    for part in local:
        _agree(part, counts)
    found = {name: counts[name] for name in sorted(internal) if name in counts}
    for part in local:
        tasks = task_count(part, counts)
        for topic in part.state_changelog_topics:
            if tasks and (
                topic.name not in partition_counts or topic.name not in part.source_topics
            ):
                found.setdefault(topic.name, tasks)
    return found


def task_count(part: Subtopology, partition_counts: Mapping[str, int]) -> int:
    """Returns how many tasks run a subtopology: the most partitions of what it reads.

    Of a source by pattern a topic may be gone while its rows are still in the stores: their
    changelogs count as well.

    Args:
        part: the subtopology.
        partition_counts: topic -> its partition count, internal ones among them.
    """
    if part.is_global:
        return 0
    counts = [partition_counts[topic] for topic in _read(part, partition_counts)]
    if part.source_patterns:
        counts += changelog_counts(part, partition_counts).values()
    return max(counts, default=0)


def partitions_text(count: int) -> str:
    """Returns a number of partitions in words, for messages."""
    return "1 partition" if count == 1 else f"{count} partitions"


def changelog_counts(part: Subtopology, partition_counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the partition counts of a subtopology's own changelogs that exist."""
    return {
        topic.name: partition_counts[topic.name]
        for topic in part.state_changelog_topics
        if topic.name in partition_counts and topic.name not in part.source_topics
    }


def _read(part: Subtopology, partition_counts: Mapping[str, int]) -> Iterator[str]:
    """Returns the topics that a subtopology reads and whose count is known."""
    internal = {topic.name for topic in part.repartition_source_topics}
    for topic in (*part.source_topics, *internal):
        if topic in partition_counts:
            yield topic
    if part.source_patterns:
        yield from filter(part.matches, partition_counts)


def _fixed_counts(part: Subtopology) -> dict[str, int]:
    topics = part.repartition_source_topics
    return {topic.name: topic.partitions for topic in topics if topic.partitions}


def _check_exist(parts: Iterable[Subtopology], partition_counts: Mapping[str, int]) -> None:
    for part in parts:
        missing = [topic for topic in part.source_topics if topic not in partition_counts]
        if missing:
            raise TopologyError(
                f"source topics of subtopology {part.id} do not exist: {', '.join(missing)}; "
                "create them first",
                topic=missing[0],
            )


def _behind_patterns(parts: Sequence[Subtopology]) -> set[str]:
    """Returns the repartition topics that records of a source by pattern can reach."""
    found: set[str] = set()
    size = -1
    while size < len(found):
        size = len(found)
        for part in parts:
            read = {topic.name for topic in part.repartition_source_topics}
            if part.source_patterns or read & found:
                found.update(part.repartition_sink_topics)
    return found


def _follow_writers(
    parts: Sequence[Subtopology],
    counts: dict[str, int],
    internal: Collection[str],
    may_wait: Collection[str],
) -> None:
    """Gives every repartition topic the most partitions of what its writers read.

    Those of `may_wait` stay without a count where nothing decides it yet, and get no more
    partitions than the changelogs have that are behind them already.
    """
    writers: dict[str, list[Subtopology]] = {}
    most_behind: dict[str, int] = {}
    for part in parts:
        for topic in part.repartition_sink_topics:
            writers.setdefault(topic, []).append(part)
        changelogs = changelog_counts(part, counts).values()
        for one in part.repartition_source_topics:
            if changelogs and one.name in may_wait:
                known = most_behind.get(one.name, min(changelogs))
                most_behind[one.name] = min(known, *changelogs)
    unknown = sorted(topic for topic in internal if topic not in counts)
    while unknown:
        left = []
        for topic in unknown:
            # A writer that reads undecided topics as well counts with what is decided: the
            # broker does not wait for the rest either.
            most = max((task_count(part, counts) for part in writers.get(topic, ())), default=0)
            if most:
                counts[topic] = min(most, most_behind.get(topic, most))
            else:
                left.append(topic)
        if len(left) == len(unknown):
            stuck = [topic for topic in left if topic not in may_wait]
            if not stuck:
                return
            raise TopologyError(
                f"the partition count of repartition topics {', '.join(stuck)} does not follow "
                "from any source topic: nothing writes them, or they only feed each other; "
                "give repartition() a number of partitions",
                topic=stuck[0],
            )
        unknown = left


def _agree(part: Subtopology, counts: dict[str, int]) -> None:
    """Gives repartition topics of a copartition group the count of the group."""
    fixed = _fixed_counts(part)
    for group in part.copartition_groups:
        internal = group.repartition_source_topics
        deciding = [counts[topic] for topic in group.source_topics]
        deciding = deciding or [fixed[topic] for topic in internal if topic in fixed]
        deciding = deciding or [
            count
            for sources in part.copartitioned_patterns
            if not set(internal).isdisjoint(sources.topics)
            for topic, count in counts.items()
            if sources.matches(topic) and part.matches(topic)
        ]
        deciding = deciding or [counts[topic] for topic in internal if topic in counts]
        if deciding:
            counts.update(dict.fromkeys(internal, max(deciding)))
