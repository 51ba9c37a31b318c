"""What a broker has of an application beside its output: internal topics and offsets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.broker.groups import committed
from tests.broker.records import Topics, unique
from tests.broker.workers import HANG_S, WordCount
from thalweg import (
    App,
    ConsumedRecord,
    Materialized,
    StreamsBuilder,
    TimeWindows,
    serdes,
)

DAY_MS = 24 * 60 * 60 * 1000


@pytest.fixture
def topics(kafka: str) -> Topics:
    return Topics(kafka)


def run_once(
    builder: StreamsBuilder, topics: Topics, application_id: str, state: Path, **settings: Any
) -> None:
    """Runs an application until it has done everything, and stops it."""
    with App(
        builder,
        application_id=application_id,
        bootstrap_servers=topics.servers,
        state_dir=state,
        commit_interval_ms=100,
        **settings,
    ) as app:
        assert app.wait_until_idle(timedelta(seconds=HANG_S)), f"{app!r}, {app.progress()}"
        assert app.close(timedelta(seconds=HANG_S)), app.error


def test_internal_topics_are_made_as_the_jvm_has_them_made(topics: Topics, tmp_path: Path) -> None:
    application_id, source = unique("windows"), topics.create(unique("in"), 3)
    builder = StreamsBuilder()
    words = builder.stream(source, value_serde=serdes.string).group_by(
        lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string
    )
    words.count(name="all")
    words.windowed_by(TimeWindows.of_size(timedelta(minutes=1))).count(
        materialized=Materialized("lately", retention=timedelta(minutes=10))
    )
    topics.produce(source, [(None, b"rose")])

    run_once(builder, topics, application_id, tmp_path)

    made = {name for name in topics.names() if name.startswith(f"{application_id}-")}
    created = {"message.timestamp.type": "CreateTime"}
    passed_on = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "segment.bytes": "52428800",
        **created,
    }
    assert {name: topics.own_configs(name) for name in made} == {
        f"{application_id}-all-repartition": passed_on,
        f"{application_id}-lately-repartition": passed_on,
        f"{application_id}-all-changelog": {"cleanup.policy": "compact", **created},
        f"{application_id}-lately-changelog": {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(10 * 60 * 1000 + DAY_MS),
            **created,
        },
    }
    assert {topics.partitions(name) for name in made} == {3}


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
def test_offsets_carry_the_time_of_their_partition_to_the_next_run(
    topics: Topics, tmp_path: Path, guarantee: str
) -> None:
    application_id, source = unique("times"), topics.create(unique("in"), 3, retention_ms="-1")
    known_ms: list[int] = []

    def timestamp(record: ConsumedRecord, partition_time_ms: int) -> int:
        known_ms.append(partition_time_ms)
        return record.timestamp

    builder = StreamsBuilder()
    builder.stream(source, timestamp_extractor=timestamp).for_each(lambda _key, _value: None)

    def committed_now() -> dict[tuple[str, int], tuple[int, str]]:
        # confluent-kafka sends the end of a C string along in a transaction: docs/differences.md.
        end = "\0" if guarantee == "exactly_once_v2" else ""
        found = committed(topics.servers, application_id)
        return {at: (offset, text.removesuffix(end)) for at, (offset, text) in found.items()}

    # A partition of which nothing was read yet has its first position, and no time: -1.
    begun = (0, "Av//////////")
    # The latest record decides; the JVM's own words for 0x167 are in golden case agg_count.
    topics.produce(source, [(b"a", b""), (b"b", b"")], timestamps=[0x167, 0x100], partition=0)
    run_once(builder, topics, application_id, tmp_path, processing_guarantee=guarantee)
    topics.produce(source, [(b"d", b"")], timestamps=[0x0102_0304_0506], partition=2)
    assert known_ms == [-1, 0x167]
    assert committed_now() == {
        (source, 0): (2, "AgAAAAAAAAFn"),
        (source, 1): begun,
        (source, 2): begun,
    }

    topics.produce(source, [(b"c", b"")], timestamps=[0x100], partition=0)
    run_once(builder, topics, application_id, tmp_path, processing_guarantee=guarantee)
    assert sorted(known_ms[2:]) == [-1, 0x167]
    assert committed_now() == {
        (source, 0): (3, "AgAAAAAAAAFn"),
        (source, 1): begun,
        (source, 2): (1, "AgAAAQIDBAUG"),
    }


def test_processed_records_of_repartition_topics_are_deleted_behind_the_offsets(
    kafka: str, tmp_path: Path
) -> None:
    """Commits are rare and purges frequent, so that much is processed and not yet committed."""
    with WordCount(
        kafka, tmp_path, commit_interval_ms=500, repartition_purge_interval_ms=50
    ) as words:
        topics, repartition = words.topics, words.repartition

        def is_purged() -> bool:
            begins = topics.begins(repartition)  # first: what is committed only grows
            done = topics.committed(words.application_id, repartition)
            assert all(begin <= done.get(at, 0) for at, begin in begins.items()), (
                f"deleted up to {begins}, but committed are {done}"
            )
            return all(begins.values()) and begins == topics.ends(repartition)

        words.start("one")
        words.wait_shared()
        for _ in range(2):
            words.feed()
            words.wait(is_purged, HANG_S, lambda: f"purge: {topics.begins(repartition)}")
        words.wait_counted()

        # Nobody misses them: what is committed is still there to go on from.
        assert words.workers["one"].stop() == 0
        words.start("one")
        words.feed()
        words.wait_counted()
        words.stop()
        words.assert_exact(is_each_written=False)
        words.assert_calm()
