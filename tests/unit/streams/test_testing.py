"""The test driver: what goes in, what comes out, and time that stands still."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from thalweg import (
    AppStateError,
    DeserializationError,
    Headers,
    KeyValueStore,
    Materialized,
    ProcessingError,
    Processor,
    PunctuationType,
    Record,
    Response,
    SerializationError,
    StreamsBuilder,
    StreamsConfig,
    StreamsError,
    TimeWindows,
    TopologyTestDriver,
    TransportError,
    UnknownStoreError,
    ValueAndTimestamp,
    dead_letter,
    key_value_store,
    serdes,
)
from thalweg.stores.formats import decode_partition_metadata
from thalweg.streams.testing import ProducedRecord, TestRecord

string, int64 = serdes.string, serdes.int64
TEXTS: dict[str, Any] = {"default_key_serde": string, "default_value_serde": string}


def passing() -> StreamsBuilder:
    """Passes records on."""
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    return builder


def counting(**options: Any) -> StreamsBuilder:
    """Counts records by key."""
    builder = StreamsBuilder()
    counts = (
        builder.stream("in").group_by_key().count(materialized=Materialized("counts", **options))
    )
    counts.to_stream().to("out", value_serde=int64)
    return builder


@pytest.fixture
def driver() -> Iterator[TopologyTestDriver]:
    """Returns a driver that passes texts on; its wall clock stands at 1000."""
    with TopologyTestDriver(passing(), wall_clock_ms=1_000, **TEXTS) as driver:
        yield driver


# -- piping in -----------------------------------------------------------------------------


def test_records_without_a_time_get_the_topics_time(driver: TopologyTestDriver) -> None:
    out = driver.create_output_topic("out")
    records = driver.create_input_topic("in", auto_advance=timedelta(milliseconds=5))
    records.pipe_input("k", "1")
    records.pipe_input("k", "2")
    records.pipe_input("k", "set", 77)
    records.pipe_value("3")
    records.advance_time(timedelta(seconds=1))
    records.advance_time(1)
    records.pipe_value(None)
    assert [(one.key, one.value, one.timestamp) for one in out.read_records_to_list()] == [
        ("k", "1", 1_000),
        ("k", "2", 1_005),
        ("k", "set", 77),
        (None, "3", 1_010),
        (None, None, 2_016),
    ]


@pytest.mark.parametrize("start", [5_000, datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)])
def test_a_topics_time_begins_where_it_is_told(
    driver: TopologyTestDriver, start: int | datetime
) -> None:
    records = driver.create_input_topic("in", start=start, auto_advance=1)
    out = driver.create_output_topic("out")
    records.pipe_input("k", "v")
    records.pipe_input("k", "v", start)
    assert [one.timestamp for one in out.read_records_to_list()] == [5_000, 5_000]


def test_topics_of_one_name_have_times_of_their_own(driver: TopologyTestDriver) -> None:
    slow, fast = driver.create_input_topic("in"), driver.create_input_topic("in", auto_advance=9)
    for topic in (slow, fast, slow, fast):
        topic.pipe_value("v")
    out = driver.create_output_topic("out")
    assert [one.timestamp for one in out.read_records_to_list()] == [1_000, 1_000, 1_000, 1_009]


def test_rows_and_values_can_be_piped_at_once(driver: TopologyTestDriver) -> None:
    records, out = driver.create_input_topic("in"), driver.create_output_topic("out")
    records.pipe_key_values([("a", "1"), ("b", None)])
    records.pipe_key_values([("c", "3"), (None, "4")], 10, timedelta(milliseconds=2))
    records.pipe_values(["5", "6"], datetime(1970, 1, 1, tzinfo=UTC), 3)
    records.pipe_values(["7"])
    assert [(one.key, one.value, one.timestamp) for one in out.read_records_to_list()] == [
        ("a", "1", 1_000),
        ("b", None, 1_000),
        ("c", "3", 10),
        (None, "4", 12),
        (None, "5", 0),
        (None, "6", 3),
        (None, "7", 1_000),
    ]


def test_records_carry_headers(driver: TopologyTestDriver) -> None:
    records, out = driver.create_input_topic("in"), driver.create_output_topic("out")
    headers = Headers([("a", b"1"), ("a", None)])
    records.pipe_input("k", "v", 3, headers)
    records.pipe_record(TestRecord("k", "w", 4, headers))
    records.pipe_records([TestRecord("k", "x"), TestRecord("k", "y", 6)])
    read = out.read_records_to_list()
    assert read == [
        TestRecord("k", "v", 3, headers),
        TestRecord("k", "w", 4, headers),
        TestRecord("k", "x", 1_000),
        TestRecord("k", "y", 6),
    ]


def test_bytes_can_be_piped_and_taken(driver: TopologyTestDriver) -> None:
    driver.pipe_raw("in", b"k", None, 5, [("h", b"1")])
    driver.pipe_raw("in", None, b"v", 6)
    assert driver.take_produced() == [
        ProducedRecord("out", None, b"k", None, 5, [("h", b"1")]),
        ProducedRecord("out", None, None, b"v", 6, []),
    ]
    assert driver.take_produced() == []


def test_a_topic_that_is_not_read_is_refused(driver: TopologyTestDriver) -> None:
    topic = driver.create_input_topic("other")
    with pytest.raises(TransportError, match="does not read topic 'other'; it reads: in"):
        topic.pipe_value("v")
    with pytest.raises(TransportError, match=r"it reads: in; did you mean 'in'\?"):
        driver.create_input_topic("ins").pipe_value("v")


def test_topics_of_a_pattern_can_be_piped_to() -> None:
    builder = StreamsBuilder()
    builder.stream(re.compile("in-.*")).to("out")
    with TopologyTestDriver(builder, **TEXTS) as driver:
        driver.create_input_topic("in-1").pipe_value("a")
        driver.create_input_topic("in-2").pipe_value("b")
        assert driver.create_output_topic("out").read_values_to_list() == ["a", "b"]
        with pytest.raises(TransportError, match=r"in-1, in-2, all that match 'in-\.\*'"):
            driver.create_input_topic("on-3").pipe_value("c")


def test_what_cannot_be_encoded_is_not_piped(driver: TopologyTestDriver) -> None:
    with pytest.raises(SerializationError):
        driver.create_input_topic("in").pipe_input("k", 5)  # type: ignore[arg-type] - on purpose
    assert driver.take_produced() == []


@pytest.mark.parametrize("duration", [-1, timedelta(milliseconds=-1)])
def test_a_topics_time_only_goes_forward(
    driver: TopologyTestDriver, duration: int | timedelta
) -> None:
    with pytest.raises(ValueError, match="only goes forward"):
        driver.create_input_topic("in").advance_time(duration)
    with pytest.raises(ValueError, match="only goes forward"):
        driver.create_input_topic("in", auto_advance=duration)


# -- reading out ---------------------------------------------------------------------------


def test_records_are_read_once_oldest_first(driver: TopologyTestDriver) -> None:
    records, out = driver.create_input_topic("in"), driver.create_output_topic("out")
    assert (out.queue_size, out.is_empty) == (0, True)
    for number in range(6):
        records.pipe_input(f"k{number}", f"v{number}", number)
    assert (out.queue_size, out.is_empty) == (6, False)
    assert out.read_record() == TestRecord("k0", "v0", 0)
    assert out.read_key_value() == ("k1", "v1")
    assert out.read_value() == "v2"
    assert driver.create_output_topic("out").read_value() == "v3"
    assert out.read_key_values_to_list() == [("k4", "v4"), ("k5", "v5")]
    assert out.is_empty
    assert out.read_records_to_list() == out.read_values_to_list() == []
    assert out.read_key_values_to_map() == {}


def test_a_map_has_the_last_value_of_each_key(driver: TopologyTestDriver) -> None:
    records, out = driver.create_input_topic("in"), driver.create_output_topic("out")
    records.pipe_key_values([("a", "1"), ("b", "2"), ("a", "3"), ("b", None)])
    assert out.read_key_values_to_map() == {"a": "3", "b": None}
    records.pipe_value("no key")
    with pytest.raises(ValueError, match="'out' has records without a key; read them as a list"):
        out.read_key_values_to_map()


def test_an_empty_topic_says_which_others_were_written() -> None:
    builder = passing()
    builder.stream("more").to("unused")
    with TopologyTestDriver(builder, **TEXTS) as driver:
        nothing = driver.create_output_topic("unused")
        with pytest.raises(LookupError, match=r"'unused' has no more records.*written to: none"):
            nothing.read_value()
        driver.create_input_topic("in").pipe_value("v")
        for read in (nothing.read_record, nothing.read_key_value, nothing.read_value):
            with pytest.raises(LookupError, match="written to: out"):
                read()


ASKED: dict[str, Callable[[Any], Any]] = {
    "is_empty": lambda topic: topic.is_empty,
    "queue_size": lambda topic: topic.queue_size,
    "read_value": lambda topic: topic.read_value(),
    "read_key_values_to_list": lambda topic: topic.read_key_values_to_list(),
    "read_key_values_to_map": lambda topic: topic.read_key_values_to_map(),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_a_topic_that_is_not_written_is_refused(ask: Callable[[Any], Any]) -> None:
    with TopologyTestDriver(counting(), **TEXTS) as driver:
        topic = driver.create_output_topic("outt")
        for _ in range(2):
            with pytest.raises(
                TransportError, match=r"does not write topic 'outt'; it writes: "
            ) as it:
                ask(topic)
        assert "out, test-driver-counts-changelog; did you mean 'out'?" in str(it.value)
        with pytest.raises(TransportError, match="does not write topic 'in'"):
            ask(driver.create_output_topic("in"))


def test_topics_that_can_be_written_are_not_refused() -> None:
    builder = counting(logging=False)
    words = builder.stream("words")
    words.group_by(lambda _key, value: value).count(name="by-word")
    settings = {**TEXTS, "dead_letter_queue_topic": "letters"}
    with TopologyTestDriver(builder, application_id="app", **settings) as driver:
        for topic in ("out", "app-by-word-changelog", "app-by-word-repartition", "letters"):
            assert driver.create_output_topic(topic).is_empty
        with pytest.raises(TransportError, match=r"mean 'app-by-word-changelog'"):
            driver.produced("by-word-changelog")
        with pytest.raises(TransportError, match="does not write"):
            driver.produced("app-counts-changelog")


def test_where_records_choose_their_topic_any_may_be_read() -> None:
    builder = StreamsBuilder()
    builder.stream("in").to(lambda key, _value, _context: key)
    with TopologyTestDriver(builder, **TEXTS) as driver:
        assert driver.create_output_topic("anywhere").is_empty
        driver.create_input_topic("in").pipe_input("there", "v")
        assert driver.create_output_topic("there").read_value() == "v"


def test_where_a_handler_may_send_letters_any_may_be_read() -> None:
    def send_away(context: Any, _record: Any, error: Exception) -> Response:
        return Response.resume(dead_letter(context, error, topic="away"))

    builder = StreamsBuilder()
    builder.stream("in").map_values(lambda value: value / 2).to("out")
    with TopologyTestDriver(builder, processing_handler=send_away, **TEXTS) as driver:
        assert driver.create_output_topic("away").is_empty
        driver.create_input_topic("in").pipe_value("v")
        assert driver.create_output_topic("away").read_value() == "v"


def test_serdes_of_output_topics_are_those_given_or_the_defaults() -> None:
    with TopologyTestDriver(counting(), **TEXTS) as driver:
        driver.create_input_topic("in").pipe_key_values([("a", "x"), ("a", "x")])
        assert driver.create_output_topic("out", value_serde=int64).read_value() == 1
        assert driver.create_output_topic("out", serdes.bytes, serdes.bytes).read_key_value() == (
            b"a",
            (2).to_bytes(8),
        )


def test_topics_that_were_written_are_known_internal_ones_too() -> None:
    builder = StreamsBuilder()
    grouped = builder.stream("in").group_by(lambda _key, value: value)
    grouped.count(name="counts").to_stream().to("out", value_serde=int64)
    with TopologyTestDriver(builder, application_id="app", **TEXTS) as driver:
        assert driver.produced_topic_names() == set()
        driver.create_input_topic("in").pipe_value("a")
        assert driver.produced_topic_names() == {
            "app-counts-repartition",
            "app-counts-changelog",
            "out",
        }
        produced = driver.produced("app-counts-repartition")
        assert [record.key for record in produced] == [b"a"]


# -- how far a record goes -----------------------------------------------------------------


def test_a_record_goes_all_the_way_through_topics_that_are_read_again() -> None:
    builder = StreamsBuilder()
    words = builder.stream("in").flat_map_values(str.split)
    words.select_key(lambda _key, word: word).repartition("by-word").to("middle")
    builder.stream("middle").filter(lambda _key, value: value != "b").to("out")
    with TopologyTestDriver(builder, **TEXTS) as driver:
        driver.create_input_topic("in").pipe_value("a b c")
        assert driver.create_output_topic("out").read_values_to_list() == ["a", "c"]
        assert driver.create_output_topic("middle").read_values_to_list() == ["a", "b", "c"]


def test_every_update_shows_unless_commits_are_made_by_hand() -> None:
    rows = [("a", "x"), ("b", "x"), ("a", "x")]
    with TopologyTestDriver(counting(), **TEXTS) as driver:
        driver.create_input_topic("in").pipe_key_values(rows)
        out = driver.create_output_topic("out", value_serde=int64)
        assert out.read_key_values_to_list() == [("a", 1), ("b", 1), ("a", 2)]
    with TopologyTestDriver(counting(), commit="manual", **TEXTS) as driver:
        driver.create_input_topic("in").pipe_key_values(rows)
        out = driver.create_output_topic("out", value_serde=int64)
        assert out.is_empty
        driver.commit()
        assert out.read_key_values_to_list() == [("b", 1), ("a", 2)]
    with TopologyTestDriver(
        counting(), commit="manual", statestore_cache_max_bytes=0, **TEXTS
    ) as driver:
        driver.create_input_topic("in").pipe_key_values(rows)
        assert driver.create_output_topic("out").queue_size == 3


def test_user_code_may_ask_for_a_commit() -> None:
    class Committing(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            if record.value == "commit":
                self.context.commit()

    builder = counting()
    builder.stream("asking").process(Committing)
    with TopologyTestDriver(builder, commit="manual", **TEXTS) as driver:
        driver.create_input_topic("in").pipe_input("a", "x")
        out = driver.create_output_topic("out", value_serde=int64)
        driver.create_input_topic("asking").pipe_value("nothing")
        assert out.is_empty
        driver.create_input_topic("asking").pipe_value("commit")
        assert out.read_key_value() == ("a", 1)


def test_inputs_of_one_task_share_its_time() -> None:
    builder = StreamsBuilder()
    windows = TimeWindows.of_size(10, grace=0)
    builder.stream("in").group_by_key().windowed_by(windows).count(name="counts")
    builder.stream("other").to("out")
    with TopologyTestDriver(builder, **TEXTS) as driver:
        driver.create_input_topic("in").pipe_input("k", "v", 100)
        driver.create_input_topic("other").pipe_input("k", "v", 5_000)
        driver.create_input_topic("in").pipe_input("k", "v", 50)
        assert driver.dropped_records_total() == 1


def test_committed_metadata_is_the_partition_time() -> None:
    with TopologyTestDriver(passing(), **TEXTS) as driver:
        records = driver.create_input_topic("in")
        assert driver.committed_metadata() == {}
        records.pipe_input("k", "v", 9)
        records.pipe_input("k", "v", 5)
        (metadata,) = driver.committed_metadata().values()
        assert decode_partition_metadata(metadata) == 9
    exactly_once = {"processing_guarantee": "exactly_once_v2", **TEXTS}
    with TopologyTestDriver(passing(), **exactly_once) as driver:
        driver.create_input_topic("in").pipe_value("v")
        assert driver.committed_metadata() == {}


# -- wall clock ----------------------------------------------------------------------------


def ticking() -> StreamsBuilder:
    """Forwards the time every ten milliseconds of wall clock, and counts."""

    class Ticking(Processor[str, str, str, str]):
        def init(self, context: Any) -> None:
            super().init(context)
            context.schedule(10, PunctuationType.WALL_CLOCK_TIME, self.tick)

        def tick(self, now_ms: int) -> None:
            self.context.forward(Record("tick", str(now_ms), now_ms))

        def process(self, record: Record[str, str]) -> None: ...

    builder = StreamsBuilder()
    builder.stream("in").process(Ticking).to("middle")
    builder.stream("middle").group_by_key().count(name="ticks")
    return builder


def test_the_wall_clock_stands_still_until_it_is_moved() -> None:
    with TopologyTestDriver(ticking(), wall_clock_ms=100, **TEXTS) as driver:
        middle = driver.create_output_topic("middle")
        driver.create_input_topic("in").pipe_input("k", "v", 1_000_000)
        assert middle.is_empty
        driver.advance_wall_clock_time(9)
        driver.advance_wall_clock_time(timedelta(milliseconds=1))
        driver.advance_wall_clock_time(35)
        assert middle.read_values_to_list() == ["110", "145"]
        assert driver.get_state_store("ticks").get("tick") == ValueAndTimestamp(2, 145)
        with pytest.raises(ValueError, match="cannot be advanced"):
            driver.advance_wall_clock_time(-1)


def test_the_wall_clock_is_what_user_code_sees() -> None:
    seen: list[int] = []

    class Looking(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            seen.append(self.context.current_system_time_ms())

    builder = StreamsBuilder()
    builder.stream("in").process(Looking)
    with TopologyTestDriver(builder, wall_clock_ms=100, **TEXTS) as driver:
        driver.create_input_topic("in").pipe_value("v")
        driver.advance_wall_clock_time(timedelta(seconds=1))
        driver.create_input_topic("in").pipe_value("v")
    assert seen == [100, 1_100]


# -- stores --------------------------------------------------------------------------------


def test_stores_can_be_read_and_written_like_a_processor_does() -> None:
    with TopologyTestDriver(counting(), **TEXTS) as driver:
        store = driver.get_state_store("counts")
        store.put("a", ValueAndTimestamp(41, 7))
        driver.create_input_topic("in").pipe_input("a", "x", 9)
        assert store.get("a") == ValueAndTimestamp(42, 9)
        assert driver.create_output_topic("out", value_serde=int64).read_value() == 42
        assert set(driver.get_all_state_stores()) == {"counts"}
        with pytest.raises(
            UnknownStoreError, match="no store 'count'; the topology's stores: counts"
        ):
            driver.get_state_store("count")


def test_a_store_is_typed_and_what_is_wrong_is_told() -> None:
    with TopologyTestDriver(counting(), **TEXTS) as driver:
        driver.create_input_topic("in").pipe_input("a", "x", 9)
        store = driver.store("counts", key=str, value=int, timestamped=True)
        assert store["a"].value == 1
        assert driver.store("counts") is driver.get_state_store("counts") is store
        for wrong, said in (
            ({"key": str, "value": int}, "keeps timestamps .* ask with timestamped=True"),
            ({"key": int, "value": int, "timestamped": True}, "the keys of store 'counts' are str"),
            ({"key": str, "value": str, "timestamped": True}, "the values of store 'counts'"),
            ({"key": str, "value": int, "kind": "window"}, 'ask for it with kind="key-value"'),
        ):
            ask: Any = driver.store
            with pytest.raises(TypeError, match=said):
                ask("counts", **wrong)
        with pytest.raises(UnknownStoreError, match="counts"):
            driver.store("none", key=str, value=int)


def test_a_topology_without_stores_has_none(driver: TopologyTestDriver) -> None:
    assert driver.get_all_state_stores() == {}
    with pytest.raises(UnknownStoreError, match="stores: none"):
        driver.get_state_store("counts")


def test_rows_below_cache_and_logging_can_be_looked_at_and_restored() -> None:
    with TopologyTestDriver(counting(), commit="manual", **TEXTS) as driver:
        driver.create_input_topic("in").pipe_input("a", "x", 9)
        assert driver.store_entries("counts") == ("timestamped-kv", [])
        driver.commit()
        value = (9).to_bytes(8) + (1).to_bytes(8)
        assert driver.store_entries("counts") == (
            "timestamped-kv",
            [{"key": b"a".hex(), "value": value.hex()}],
        )
        (logged,) = driver.produced("test-driver-counts-changelog")
    with TopologyTestDriver(counting(), **TEXTS) as driver:
        driver.restore_entries("counts", [(logged.timestamp or 0, logged.key, logged.value, 0)])
        assert driver.get_state_store("counts").get("a") == ValueAndTimestamp(1, 9)


def test_global_stores_are_among_the_stores() -> None:
    class Filling(Processor[str, str, Any, Any]):
        def init(self, context: Any) -> None:
            self.rows: KeyValueStore[str, str] = context.get_state_store("facts")

        def process(self, record: Record[str, str]) -> None:
            self.rows.put(record.key, record.value)

    builder = counting()
    builder.add_global_store(key_value_store("facts", string, string), "facts-in", Filling)
    with TopologyTestDriver(builder, **TEXTS) as driver:
        driver.create_input_topic("facts-in").pipe_input("a", "1")
        assert set(driver.get_all_state_stores()) == {"counts", "facts"}
        assert driver.get_state_store("facts").get("a") == "1"
        assert driver.produced_topic_names() == set()


def test_state_does_not_outlive_the_driver(tmp_path: Path) -> None:
    directories: list[Path] = []

    class Looking(Processor[str, str, str, str]):
        def init(self, context: Any) -> None:
            directories.append(context.state_dir)

        def process(self, record: Record[str, str]) -> None: ...

    builder = counting()
    builder.stream("in").process(Looking)
    for _ in range(2):
        with TopologyTestDriver(builder, state_dir=tmp_path, **TEXTS) as driver:
            driver.create_input_topic("in").pipe_input("a", "x")
            assert driver.create_output_topic("out", value_serde=int64).read_value() == 1
            assert directories[-1].is_dir()
    assert not any(directory.exists() for directory in directories)
    assert list(tmp_path.iterdir()) == []


# -- errors --------------------------------------------------------------------------------


def test_a_record_that_fails_raises_and_the_next_one_goes_on() -> None:
    builder = StreamsBuilder()
    builder.stream("in").map_values(lambda value: str(10 // int(value))).to("out")
    with TopologyTestDriver(builder, **TEXTS) as driver:
        records, out = driver.create_input_topic("in"), driver.create_output_topic("out")
        records.pipe_value("5")
        with pytest.raises(
            StreamsError, match=r"ZeroDivisionError.*topic in, partition 0, offset 1"
        ):
            records.pipe_value("0")
        records.pipe_value("2")
        assert out.read_values_to_list() == ["2", "5"]


def test_what_was_sent_before_the_failure_can_be_read() -> None:
    builder = StreamsBuilder()
    records = builder.stream("in")
    records.to("before")
    records.map_values(lambda value: 1 // 0).to("out")
    with TopologyTestDriver(builder, **TEXTS) as driver:
        with pytest.raises(StreamsError):
            driver.create_input_topic("in").pipe_value("v")
        assert driver.create_output_topic("before").read_value() == "v"


def test_closed_it_does_nothing_any_more(driver: TopologyTestDriver) -> None:
    records = driver.create_input_topic("in")
    driver.close()
    driver.close()
    for use in (
        lambda: records.pipe_value("v"),
        lambda: driver.advance_wall_clock_time(1),
        driver.commit,
    ):
        with pytest.raises(AppStateError, match="the test driver is closed; make a new one"):
            use()


def test_processors_are_closed_with_it() -> None:
    closed: list[str] = []

    class Closing(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None: ...

        def close(self) -> None:
            closed.append("yes")

    builder = StreamsBuilder()
    builder.stream("in").process(Closing)
    with TopologyTestDriver(builder, **TEXTS):
        assert closed == []
    assert closed == ["yes"]


def test_a_driver_that_cannot_be_made_leaves_nothing_behind() -> None:
    class Broken(Processor[str, str, str, str]):
        def init(self, context: Any) -> None:
            raise ValueError("init")

        def process(self, record: Record[str, str]) -> None: ...

        def close(self) -> None:
            raise ValueError("close")

    builder = counting()
    builder.stream("in").process(Broken, name="broken")
    with pytest.raises(StreamsError, match=r"ValueError: init.*node broken"):
        TopologyTestDriver(builder, **TEXTS)
    gc.collect()  # a directory that was left behind warns, and a warning is an error


def test_settings_are_given_in_one_way_and_commits_in_two() -> None:
    config = StreamsConfig(application_id="mine", **TEXTS)
    with TopologyTestDriver(passing().build(), config=config) as driver:
        assert driver.config is config
    with pytest.raises(TypeError, match=r"config= or settings, not both \(got poll_ms\)"):
        TopologyTestDriver(passing(), config=config, poll_ms=5)
    with pytest.raises(ValueError, match='commit is "every-record" or "manual"'):
        TopologyTestDriver(passing(), commit="never")  # type: ignore[arg-type] - on purpose
    with TopologyTestDriver(passing()) as driver:
        assert driver.config.application_id == "test-driver"


def test_metrics_are_those_of_the_task() -> None:
    with TopologyTestDriver(passing(), **TEXTS) as driver:
        driver.create_input_topic("in").pipe_values(["a", "b"])
        found = {metric.name: metric.value for metric in driver.metrics()}
        assert found["process-total"] == 2


# -- what fails ----------------------------------------------------------------------------


def broken() -> dict[str, tuple[StreamsBuilder, type[Exception]]]:
    """Returns topologies that fail at the record ("k", "v")."""

    def no_number(value: str) -> float:
        return value / 2  # type: ignore[operator] - on purpose

    processing, decoding, encoding = StreamsBuilder(), StreamsBuilder(), StreamsBuilder()
    processing.stream("in").map_values(no_number).to("out")
    decoding.stream("in", value_serde=int64).to("out")
    encoding.stream("in").to("out", value_serde=int64)
    return {
        "processing": (processing, ProcessingError),
        "decoding": (decoding, DeserializationError),
        "encoding": (encoding, SerializationError),
    }


@pytest.mark.parametrize("what", ["processing", "decoding", "encoding"])
def test_what_fails_is_raised_and_not_logged_as_well(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    builder, kind = broken()[what]
    with TopologyTestDriver(builder, **TEXTS) as driver, caplog.at_level(0):
        with pytest.raises(kind, match="offset 0"):
            driver.create_input_topic("in").pipe_input("k", "v")
        assert caplog.records == []


def test_a_handler_that_goes_on_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    builder, _ = broken()["processing"]
    handler = {"processing_handler": "log_and_continue"}
    with TopologyTestDriver(builder, **TEXTS, **handler) as driver:
        driver.create_input_topic("in").pipe_input("k", "v")
        assert driver.dropped_records_total() == 1
    assert "the record is dropped" in caplog.text


def test_letters_are_sent_by_the_handlers_that_fail() -> None:
    builder, _ = broken()["processing"]
    with TopologyTestDriver(builder, dead_letter_queue_topic="letters", **TEXTS) as driver:
        with pytest.raises(ProcessingError):
            driver.create_input_topic("in").pipe_input("k", "v")
        assert driver.create_output_topic("letters").read_value() == "v"


def test_a_failure_while_closing_does_not_mask_that_of_the_test() -> None:
    class Closing(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None: ...

        def close(self) -> None:
            raise ValueError("not closed")

    builder = StreamsBuilder()
    builder.stream("in").process(Closing, name="closing")
    mine = AssertionError("mine")

    def test() -> None:
        with TopologyTestDriver(builder, **TEXTS):
            raise mine

    with pytest.raises(AssertionError) as raised:
        test()
    assert raised.value is mine
    assert any("not closed" in note for note in mine.__notes__)
    with pytest.raises(ProcessingError, match="not closed"), TopologyTestDriver(builder, **TEXTS):
        pass
