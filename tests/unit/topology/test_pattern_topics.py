"""Which topics a source by pattern reads, and why it does not read others."""

from __future__ import annotations

import re
from typing import Any

from thalweg import StreamsBuilder, serdes
from thalweg.topology.pattern_topics import unfit_topics
from thalweg.topology.subtopologies import (
    Subtopology,
    TopologyConfig,
    internal_topic_partitions,
    subtopologies,
    task_count,
)

S = serdes.string
CLICKS = re.compile("clicks-.*")


def parts_of(builder: StreamsBuilder) -> list[Subtopology]:
    return subtopologies(builder.build(), TopologyConfig("app"))


def counting(pattern: str = "clicks-.*") -> list[Subtopology]:
    """Returns a count by key over the topics of a pattern."""
    builder = StreamsBuilder()
    builder.stream(re.compile(pattern), key_serde=S, value_serde=S).group_by_key().count(name="n")
    return parts_of(builder)


def by_word(pattern: re.Pattern[str] = CLICKS) -> list[Subtopology]:
    """Returns a count behind a repartition topic, over the topics of a pattern."""
    builder = StreamsBuilder()
    clicks = builder.stream(pattern, key_serde=S, value_serde=S)
    clicks.group_by(lambda _key, value: value, key_serde=S, value_serde=S).count(name="n")
    return parts_of(builder)


def joined(**table: Any) -> list[Subtopology]:
    builder = StreamsBuilder()
    clicks = builder.stream(CLICKS, key_serde=S, value_serde=S)
    users = builder.table("users", key_serde=S, value_serde=S, **table)
    clicks.join(users, lambda click, user: click + user).to("out")
    return parts_of(builder)


def test_all_that_match_are_read_where_nothing_stands_against_it() -> None:
    counts = {"clicks-a": 1, "clicks-b": 3, "other": 9}

    assert unfit_topics(counting(), counts) == {}
    assert task_count(counting()[0], counts) == 3
    assert internal_topic_partitions(counting(), counts) == {"app-n-changelog": 3}


def test_without_a_match_there_is_nothing_to_create_yet() -> None:
    for parts in (counting(), by_word()):
        assert internal_topic_partitions(parts, {"other": 4}) == {}
        assert [task_count(part, {"other": 4}) for part in parts] == [0] * len(parts)


def test_a_topic_with_more_partitions_than_the_changelog_is_refused_by_name() -> None:
    counts = {"clicks-a": 1, "clicks-b": 3, "clicks-c": 2, "clicks-d": 2, "app-n-changelog": 2}

    unfit = unfit_topics(counting(), counts)

    assert list(unfit) == ["clicks-b"]
    for word in ("'clicks-b'", "3 partitions", "'app-n-changelog'", "has 2", "thalweg reset"):
        assert word in unfit["clicks-b"]


def test_tasks_stay_while_the_rows_of_deleted_topics_are_there() -> None:
    (part,) = counting()

    assert task_count(part, {"clicks-a": 1, "app-n-changelog": 3}) == 3
    assert internal_topic_partitions([part], {"clicks-a": 1, "app-n-changelog": 3}) == {
        "app-n-changelog": 3
    }


def test_a_repartition_topic_behind_a_pattern_keeps_its_count() -> None:
    counts = {"clicks-a": 1, "clicks-b": 5, "app-n-repartition": 2, "app-n-changelog": 2}

    assert unfit_topics(by_word(), counts) == {}
    assert internal_topic_partitions(by_word(), counts) == {
        "app-n-repartition": 2,
        "app-n-changelog": 2,
    }


def test_a_repartition_topic_gets_no_more_than_the_changelog_behind_it() -> None:
    assert internal_topic_partitions(by_word(), {"clicks-a": 5, "app-n-changelog": 2}) == {
        "app-n-repartition": 2,
        "app-n-changelog": 2,
    }


def test_internal_topics_of_the_application_are_never_matched() -> None:
    counts = {"clicks-a": 1, "app-n-changelog": 1, "app-n-repartition": 1, "other-changelog": 1}
    first, second = by_word(re.compile(".*"))

    assert [topic for topic in counts if first.matches(topic)] == ["clicks-a", "other-changelog"]
    assert unfit_topics([first, second], counts) == {}
    assert [task_count(part, counts) for part in (first, second)] == [1, 1]


def test_a_topic_that_two_patterns_match_is_refused() -> None:
    builder = StreamsBuilder()
    builder.stream(CLICKS, value_serde=S).to("one")
    builder.stream(re.compile(".*-b"), value_serde=S).to("two")

    unfit = unfit_topics(parts_of(builder), {"clicks-a": 1, "clicks-b": 1, "x-b": 1})

    assert list(unfit) == ["clicks-b"]
    assert "'clicks-.*' and '.*-b'" in unfit["clicks-b"]
    assert "narrow" in unfit["clicks-b"]


def test_several_patterns_are_judged_each_by_its_own_stores() -> None:
    builder = StreamsBuilder()
    for name in ("a", "b"):
        pattern = re.compile(f"{name}-.*")
        builder.stream(pattern, key_serde=S, value_serde=S).group_by_key().count(name=name)
    counts = {"a-1": 2, "b-1": 2, "app-a-changelog": 1, "app-b-changelog": 4}

    assert list(unfit_topics(parts_of(builder), counts)) == ["a-1"]


def test_topics_that_are_joined_must_have_the_count_of_the_other_side() -> None:
    unfit = unfit_topics(joined(), {"users": 2, "clicks-a": 2, "clicks-b": 1, "clicks-c": 3})

    assert list(unfit) == ["clicks-b", "clicks-c"]
    assert "'users'" in unfit["clicks-b"]
    assert "has 2" in unfit["clicks-b"]
    assert "1 partition," in unfit["clicks-b"]


def test_a_repartition_topic_that_is_joined_takes_the_count_of_the_matches() -> None:
    builder = StreamsBuilder()
    clicks = builder.stream(CLICKS, key_serde=S, value_serde=S)
    counts = (
        builder.stream("orders", key_serde=S, value_serde=S)
        .group_by(lambda _key, value: value, key_serde=S, value_serde=S)
        .count(name="n")
    )
    clicks.join(counts, lambda click, count: f"{click}{count}").to("out")
    parts = parts_of(builder)

    found = internal_topic_partitions(parts, {"orders": 5, "clicks-a": 2})

    assert found == {"app-n-repartition": 2, "app-n-changelog": 2}
    existing = {**found, "orders": 5, "clicks-a": 2}
    assert unfit_topics(parts, existing) == {}
    assert list(unfit_topics(parts, {**existing, "clicks-b": 1})) == ["clicks-b"]
    assert internal_topic_partitions(parts, {**existing, "clicks-a": 2}) == found


def test_of_matches_that_only_each_other_decide_for_the_most_common_count_wins() -> None:
    builder = StreamsBuilder()
    left = builder.stream(CLICKS, key_serde=S, value_serde=S)
    right = builder.stream(re.compile("views-.*"), key_serde=S, value_serde=S).to_table(name="v")
    left.join(right, lambda click, view: click + view).to("out")
    parts = parts_of(builder)

    assert list(unfit_topics(parts, {"clicks-a": 3, "views-a": 2, "views-b": 2})) == ["clicks-a"]
    assert list(unfit_topics(parts, {"clicks-a": 3, "views-a": 2})) == ["views-a"]
