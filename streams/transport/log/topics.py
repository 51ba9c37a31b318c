"""Topics and partitions of the embedded log, in memory.

Owns the state of a partition, the rules for a topic's name, and the meaning of its configs.
It must not know rows or readers. All state is guarded by the log's lock; single attributes
may be read without it.

What one partition looks like while a transport has *claimed* it, that is, reads what it has
not committed yet and therefore needs its offsets settled:

      begin             stable_end                                  end
        │ committed         │ reserved by the claim │ committed      │
        ▼                   ▼                       ▼ by others      ▼
     ───┴───────────────────┴───────────────────────┴────────────────┴──►

Others read up to `stable_end`, the claimer also what it has reserved. Without a claim the
three ends are one.

Source: JVM `TopicConfig`, `org.apache.kafka.common.internals.Topic`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from thalweg.streams.errors import TransportError
from thalweg.streams.transport.log.formats import (
    PartitionRow,
    base_bytes,
    chunks_prefix,
    partition_key,
)
from thalweg.streams.transport.port import TopicPartition

NAME_LENGTH_MAX: Final = 249
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")

MESSAGE_BYTES_MAX: Final = 1_048_588
"""Kafka's default of max.message.bytes: 1 MiB and the frame around it."""

DELETE_RETENTION_MS: Final = 86_400_000
"""Kafka's default of delete.retention.ms: tombstones are kept a day after they were cleaned."""

CLEANABLE_RATIO: Final = 0.5
"""Kafka's default of min.cleanable.dirty.ratio."""

FOREVER_MS: Final = -1

CONFIG_DEFAULTS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "delete.retention.ms": str(DELETE_RETENTION_MS),
    "max.message.bytes": str(MESSAGE_BYTES_MAX),
    "min.cleanable.dirty.ratio": str(CLEANABLE_RATIO),
    "min.compaction.lag.ms": "0",
    "retention.ms": str(FOREVER_MS),
}
"""What a topic has where it is not said otherwise: the configs that mean something here."""

CONFIG_NAMES: Final = frozenset(CONFIG_DEFAULTS) | {
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
}
"""Every config that a topic of Kafka 4.2 can have."""

_PARTITIONS_MAX: Final = 100_000


def name_fault(name: object) -> str | None:
    """Returns what is wrong with a topic's name by Kafka's rule, None if nothing is."""
    if not isinstance(name, str):
        return f"a topic's name is a text, got {name!r}"
    if name in (".", ".."):
        return f"a topic cannot be called {name!r}"
    if not _NAME.fullmatch(name):
        return (
            f"{name!r} is no topic name: 1 to {NAME_LENGTH_MAX} of the characters a-z A-Z 0-9 . _ -"
        )
    return None


class TopicConfigs:
    """What a topic's configs mean here.

    Understood are `cleanup.policy`, `retention.ms`, `max.message.bytes`,
    `delete.retention.ms`, `min.compaction.lag.ms` and `min.cleanable.dirty.ratio`, with
    Kafka's defaults but for `retention.ms`: without it records stay for ever, since they are
    the user's only copy. Other configs are kept and do nothing.

    Args:
        topic: the topic's name, for errors.
        given: the configs.

    Raises:
        TransportError: a config has a value it cannot have; names both.
    """

    __slots__ = (
        "cleanable_ratio",
        "compaction_lag_ms",
        "delete_retention_ms",
        "is_compacted",
        "is_deleted_by_age",
        "record_bytes_max",
        "retention_ms",
    )

    def __init__(self, topic: str, given: Mapping[str, str]) -> None:
        policies = {
            policy.strip() for policy in given.get("cleanup.policy", "delete").split(",")
        } - {""}
        if not policies <= {"compact", "delete"}:
            accepted = "compact, delete or both separated by a comma"
            raise _config_error(topic, "cleanup.policy", given["cleanup.policy"], accepted)
        whole = _WholeNumbers(topic, given)
        self.is_compacted = "compact" in policies
        self.retention_ms = whole.get("retention.ms", FOREVER_MS, least=FOREVER_MS)
        self.is_deleted_by_age = "delete" in policies and self.retention_ms != FOREVER_MS
        self.record_bytes_max = whole.get("max.message.bytes", MESSAGE_BYTES_MAX)
        self.delete_retention_ms = whole.get("delete.retention.ms", DELETE_RETENTION_MS)
        self.compaction_lag_ms = whole.get("min.compaction.lag.ms", 0)
        ratio = given.get("min.cleanable.dirty.ratio", str(CLEANABLE_RATIO))
        try:
            self.cleanable_ratio = float(ratio)
        except ValueError:
            self.cleanable_ratio = -1.0
        if not 0 <= self.cleanable_ratio <= 1:
            raise _config_error(topic, "min.cleanable.dirty.ratio", ratio, "a number from 0 to 1")


class _WholeNumbers:
    """Reads whole numbers of a topic's configs."""

    def __init__(self, topic: str, given: Mapping[str, str]) -> None:
        self._topic = topic
        self._given = given

    def get(self, name: str, default: int, *, least: int = 0) -> int:
        text = self._given.get(name, str(default))
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise _config_error(self._topic, name, text, f"a whole number >= {least}")
        return number


def _config_error(topic: str, name: str, value: str, accepted: str) -> TransportError:
    message = f"topic {topic!r}: its config {name} must be {accepted}, got {value!r}"
    return TransportError(message, topic=topic)


class Claim(Protocol):
    """Who reads a partition's records before they are committed.

    Attributes:
        reserved: how many of its records have the offsets they will keep.
    """

    reserved: int


class Partition:
    """One partition; see the module for its ends.

    Attributes:
        topic: the topic it is of.
        at: its name.
        chunks_prefix: what the keys of its chunks begin with.
        begin: the first offset it still has.
        committed_end: the offset behind the last committed record, also one behind a claim.
        stable_end: up to where everybody may read.
        claim: who reads what it has not committed, None if nobody does.
        claim_base: where the claim begins.
        newest_ms: highest timestamp of a committed record, -1 without.
        cleaned_end: up to where it was compacted.
        cleaned_count: records compaction left before that.
    """

    __slots__ = (
        "at",
        "begin",
        "chunks_prefix",
        "claim",
        "claim_base",
        "cleaned_count",
        "cleaned_end",
        "committed_end",
        "newest_ms",
        "stable_end",
        "topic",
    )

    def __init__(self, topic: Topic, number: int) -> None:
        self.topic = topic
        self.at = TopicPartition(topic.name, number)
        self.chunks_prefix = chunks_prefix(topic.id, number)
        self.begin = 0
        self.committed_end = 0
        self.stable_end = 0
        self.claim: Claim | None = None
        self.claim_base = 0
        self.newest_ms = -1
        self.cleaned_end = 0
        self.cleaned_count = 0

    @property
    def end(self) -> int:
        """The offset the next record gets: behind all that is committed or reserved."""
        claim = self.claim
        if claim is None:
            return self.committed_end
        return max(self.committed_end, self.claim_base + claim.reserved)

    def chunk_key(self, base: int) -> bytes:
        """Returns the key of the chunk with that base."""
        return self.chunks_prefix + base_bytes(base)

    def row_key(self) -> bytes:
        """Returns the key of its row."""
        return partition_key(self.topic.id, self.at.partition)

    def row(self) -> PartitionRow:
        """Returns what is kept of it; reservations are not."""
        return PartitionRow(
            self.begin, self.committed_end, self.cleaned_end, self.cleaned_count, self.newest_ms
        )

    def load(self, row: PartitionRow) -> None:
        """Takes over what was kept."""
        self.begin, self.committed_end, self.cleaned_end, self.cleaned_count, self.newest_ms = row
        self.stable_end = self.committed_end

    def __repr__(self) -> str:
        return f"Partition({self.at}, [{self.begin}, {self.committed_end}))"


class Topic:
    """A topic.

    Args:
        name: its name.
        id: its number; never given to another topic.
        partition_count: how many partitions it has.
        configs: by Kafka's names.

    Attributes:
        is_deleted: whether it is gone; who still holds it must let go.

    Raises:
        TransportError: a config has a value it cannot have.
    """

    __slots__ = ("configs", "given", "id", "is_deleted", "name", "partitions")

    def __init__(
        self, name: str, id: int, partition_count: int, configs: Mapping[str, str]
    ) -> None:
        self.name = name
        self.id = id
        self.given = dict(configs)
        self.configs = TopicConfigs(name, configs)
        self.is_deleted = False
        self.partitions = [Partition(self, number) for number in range(partition_count)]

    def is_repartition_of(self, group: str | None) -> bool:
        """Tells whether it carries records from an application to itself.

        It does if it has the name and the configs Kafka Streams gives its repartition
        topics: `<application.id>-<…>-repartition`, `cleanup.policy=delete` and
        `retention.ms=-1`, both said. Such a topic's records are wanted until the application
        has consumed them, and by nobody else.
        """
        return (
            group is not None
            and self.name.startswith(f"{group}-")
            and self.name.endswith("-repartition")
            and self.given.get("cleanup.policy") == "delete"
            and self.given.get("retention.ms") == "-1"
        )

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {len(self.partitions)} partitions)"


def check_partition_count(topic: str, count: object) -> None:
    """Refuses a partition count no topic can have.

    Raises:
        TransportError: it is no whole number from 1 on.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _PARTITIONS_MAX:
        message = (
            f"topic {topic!r}: partitions must be a whole number from 1 to {_PARTITIONS_MAX}, "
            f"got {count!r}"
        )
        raise TransportError(message, topic=topic)
