"""A changed script on the embedded log: what goes on, what begins anew, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.streams.running import SOON, Log, rows_of
from tests.unit.streams.upgrades import BEGINS_ANEW, GOES_ON, OTHER_TOPICS, Change, first
from thalweg import StreamsBuilder, TopologyError

STAYS = {**GOES_ON, **OTHER_TOPICS}


def counted(log: Log, home: Path, builder: StreamsBuilder) -> dict[str, int]:
    """Runs a script until it has done everything; returns the counts in its first store."""
    app = log.app(builder, home)
    store = next(name for name in app.store_names if name != "lately")
    with app:
        assert app.wait_until_idle(SOON)
        return rows_of(app.store(store))


@pytest.mark.parametrize(("before", "after"), STAYS.values(), ids=STAYS.keys())
def test_what_keeps_the_names_of_its_stores_goes_on(
    tmp_path: Path, before: Change, after: Change
) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("a", "x"))
    assert counted(log, tmp_path, before("in", "out")) == {"a": 2}
    log.send("in", ("a", "x"))

    assert counted(log, tmp_path, after("in", "out")) == {"a": 3}


@pytest.mark.parametrize(("before", "after"), BEGINS_ANEW.values(), ids=BEGINS_ANEW.keys())
def test_a_store_of_another_name_begins_empty_behind_the_offsets(
    tmp_path: Path, before: Change, after: Change
) -> None:
    log = Log()
    log.send("in", ("a", "x"), ("a", "x"))
    assert counted(log, tmp_path, before("in", "out")) == {"a": 2}
    log.send("in", ("a", "x"))

    assert counted(log, tmp_path, after("in", "out")) == {"a": 1}

    with log.transport() as transport:
        changelogs = [name for name in transport.topics() if name.endswith("-changelog")]
    assert len(changelogs) == 2


def test_another_partition_count_of_a_source_is_refused_and_the_remedy_is_named(
    tmp_path: Path,
) -> None:
    log = Log()
    log.send("in", ("a", "x"))
    assert counted(log, tmp_path, first("in", "out")) == {"a": 1}
    with log.transport() as transport:
        transport.delete_topics(["in"])
    log.create("in", 2)
    app = log.app(first("in", "out"), tmp_path)

    with pytest.raises(TopologyError, match=r"app-counts-changelog.* 1 partition.*`thalweg reset`"):
        app.run()

    # What the command does.
    with log.transport("app") as transport:
        transport.delete_offsets()
        transport.delete_topics(["app-counts-changelog"])
    log.app(first("in", "out"), tmp_path).clean_up()
    log.send("in", ("b", "x"))
    assert counted(log, tmp_path, first("in", "out")) == {"b": 1}
