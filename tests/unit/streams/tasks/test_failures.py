"""What happens when a record fails: who is asked, what follows, what the error says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.streams.running import Log
from tests.unit.streams.tasks.steps import Steps
from thalweg import (
    BrokerError,
    DeserializationError,
    ErrorContext,
    ProcessingError,
    Processor,
    PunctuationType,
    Record,
    Response,
    SerializationError,
    StreamsBuilder,
    StreamsError,
    TaskMigratedError,
    dead_letter,
    serdes,
)
from thalweg.stores.errors import BackendError, CorruptDataError, StorageError
from thalweg.streams.error_handlers import DeadLetter, OutgoingRecord
from thalweg.streams.testing import TopologyTestDriver
from thalweg.topology.processor import ConsumedRecord

string, int64 = serdes.string, serdes.int64

Asked = list[tuple[ErrorContext, Any, Exception]]


class Handler:
    """Notes what it is asked and answers as it was told."""

    def __init__(self, answer: Callable[[ErrorContext, Exception], Any]) -> None:
        self.asked: Asked = []
        self._answer = answer

    def __call__(self, context: ErrorContext, record: Any, error: Exception) -> Any:
        self.asked.append((context, record, error))
        return self._answer(context, error)


def resuming() -> Handler:
    return Handler(lambda _context, _error: Response.resume())


def failing() -> Handler:
    return Handler(lambda _context, _error: Response.fail())


def explode(value: Any) -> Any:
    raise ValueError(f"cannot do {value}")


def explode_at_b(value: str) -> str:
    return explode(value) if value == "b" else value


def driver(builder: StreamsBuilder, **settings: Any) -> TopologyTestDriver:
    given = {"default_key_serde": string, "default_value_serde": string, **settings}
    return TopologyTestDriver(builder, **given)


def decoding() -> StreamsBuilder:
    """A topology whose source cannot decode what is no int64."""
    builder = StreamsBuilder()
    builder.stream("in", value_serde=int64, name="source").to("out", value_serde=int64)
    return builder


def processing() -> StreamsBuilder:
    """A topology whose operator raises at "b"."""
    builder = StreamsBuilder()
    builder.stream("in").map_values(explode_at_b, name="mapper").to("out")
    return builder


def encoding() -> StreamsBuilder:
    """A topology whose sink cannot encode what its operator makes of "b"."""
    builder = StreamsBuilder()
    records = builder.stream("in").map_values(lambda value: 7 if value == "b" else value)
    records.to("out", name="sink", value_serde=string)
    return builder


KINDS = {
    "deserialization_handler": (decoding, DeserializationError, "source"),
    "processing_handler": (processing, ProcessingError, "mapper"),
    "production_handler": (encoding, SerializationError, "sink"),
}

GOOD, BAD = {}, {}
for _setting in KINDS:
    GOOD[_setting], BAD[_setting] = b"a", b"b"
GOOD["deserialization_handler"] = bytes(8)

each_kind = pytest.mark.parametrize("setting", KINDS)


def pipe_three(setting: str, handler: Any, **settings: Any) -> TopologyTestDriver:
    """Pipes a good record, a bad one and a good one; leaves the driver open."""
    opened = driver(KINDS[setting][0](), **{setting: handler}, **settings)
    try:
        opened.pipe_raw("in", b"k1", GOOD[setting], 1)
        opened.pipe_raw("in", b"k2", BAD[setting], 2, [("h", b"1")])
        opened.pipe_raw("in", b"k3", GOOD[setting], 3)
    except BaseException:
        opened.close()
        raise
    return opened


# -- the three answers ---------------------------------------------------------------------


@each_kind
def test_resume_drops_the_record_counts_it_and_goes_on(setting: str) -> None:
    handler = resuming()
    with pipe_three(setting, handler) as piped:
        assert [record.key for record in piped.take_produced()] == [b"k1", b"k3"]
        assert piped.dropped_records_total() == 1
    assert len(handler.asked) == 1


@each_kind
@pytest.mark.parametrize("response", [Response.fail(), Response.retry()], ids=["fail", "retry"])
def test_fail_stops_and_the_error_says_where(setting: str, response: Response) -> None:
    # Nothing is sent yet when a record cannot be decoded, processed or encoded: no use trying again.
    _, kind, node = KINDS[setting]
    with pytest.raises(kind) as raised:
        pipe_three(setting, Handler(lambda _context, _error: response))
    error = raised.value
    assert isinstance(error, StreamsError)
    assert (error.task_id, error.topic, error.partition, error.offset) == ("0_0", "in", 0, 1)
    assert error.node == node
    assert str(error).endswith(f"[task 0_0, topic in, partition 0, offset 1, node {node}]")


@each_kind
def test_the_handler_hears_where_and_what(setting: str) -> None:
    handler = resuming()
    pipe_three(setting, handler, dead_letter_queue_topic="letters").close()
    ((context, record, error),) = handler.asked
    assert (context.topic, context.partition, context.offset) == ("in", 0, 1)
    assert (context.raw_key, context.raw_value) == (b"k2", b"b")
    assert (context.timestamp, list(context.headers)) == (2, [("h", b"1")])
    assert (context.task_id, context.node) == ("0_0", KINDS[setting][2])
    assert context.dead_letter_queue_topic == "letters"
    expected: Any = {
        "deserialization_handler": ConsumedRecord,
        "processing_handler": Record,
        "production_handler": OutgoingRecord,
    }[setting]
    assert isinstance(record, expected)
    if setting != "deserialization_handler":
        assert record.key == "k2"
    if setting == "processing_handler":
        assert isinstance(error, ValueError)
    if setting == "production_handler":
        assert (record.topic, record.value, record.timestamp) == ("out", 7, 2)


@each_kind
def test_payloads_are_not_in_messages(setting: str) -> None:
    with pytest.raises(StreamsError) as raised:
        pipe_three(setting, failing())
    assert "k2" not in str(raised.value)


def test_the_original_error_is_the_cause() -> None:
    with pytest.raises(ProcessingError, match="ValueError: cannot do b") as raised:
        pipe_three("processing_handler", failing())
    assert isinstance(raised.value.__cause__, ValueError)
    with pytest.raises(DeserializationError, match="log_and_continue") as undecoded:
        pipe_three("deserialization_handler", failing())
    assert undecoded.value.__cause__ is not None
    with pytest.raises(SerializationError, match=r"sink 'sink'.*'out'.*string.*int") as unencoded:
        pipe_three("production_handler", failing())
    assert unencoded.value.__cause__ is not None


# -- handlers that misbehave ---------------------------------------------------------------


@each_kind
def test_a_handler_that_raises_stops_the_application_and_is_named(setting: str) -> None:
    asked = []

    def broken(context: ErrorContext, record: Any, error: Exception) -> Response:
        asked.append(error)
        raise KeyError("oops")

    with pytest.raises(ProcessingError, match=f"the {setting} itself raised KeyError") as raised:
        pipe_three(setting, broken)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.value.offset == 1
    assert raised.value.node == KINDS[setting][2]
    assert len(asked) == 1


@each_kind
@pytest.mark.parametrize("nonsense", [None, True, "resume", Response])
def test_a_handler_that_answers_nonsense_stops_the_application(setting: str, nonsense: Any) -> None:
    with pytest.raises(ProcessingError, match=rf"the {setting} returned .*Response\.fail\(\)"):
        pipe_three(setting, Handler(lambda _context, _error: nonsense))


# -- dead letters --------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("resumes", [True, False])
def test_dead_letters_are_sent_whether_or_not_it_goes_on(setting: str, resumes: bool) -> None:
    answer = Response.resume if resumes else Response.fail
    handler = Handler(lambda context, error: answer(dead_letter(context, error, topic="letters")))
    opened = driver(KINDS[setting][0](), **{setting: handler})
    try:
        opened.pipe_raw("in", b"k", BAD[setting], 5, [("h", b"1")])
    except StreamsError:
        assert not resumes
    (letter,) = opened.take_produced()
    opened.close()
    assert (letter.topic, letter.key, letter.value, letter.timestamp) == (
        "letters",
        b"k",
        BAD[setting],
        5,
    )
    names = [name for name, _ in letter.headers]
    assert names == [
        "h",
        *(
            f"__streams.errors.{part}"
            for part in ("exception", "message", "stacktrace", "topic", "partition", "offset")
        ),
    ]
    told = dict(letter.headers)
    assert told["__streams.errors.topic"] == b"in"
    assert told["__streams.errors.partition"] == b"0"
    assert told["__streams.errors.offset"] == b"0"


def test_a_handler_may_send_any_letters() -> None:
    letters = (
        DeadLetter("one", b"x", None, partition=0),
        DeadLetter("two", None, b"y", 9, (("n", None),)),
    )
    with pipe_three(
        "processing_handler", Handler(lambda _context, _error: Response.resume(*letters))
    ) as piped:
        sent = [record for record in piped.take_produced() if record.topic != "out"]
    assert [tuple(record) for record in sent] == [
        ("one", 0, b"x", None, None, []),
        ("two", None, None, b"y", 9, [("n", None)]),
    ]


def test_a_dead_letter_lasts_with_the_commit_that_passes_its_record(tmp_path: Path) -> None:
    log = Log()
    log.send("in", ("k", "a"), ("k", "b"), ("k", "c"))
    settings = {"processing_handler": "log_and_continue", "dead_letter_queue_topic": "letters"}
    with Steps(processing(), log, tmp_path, **settings).start() as steps:
        assert steps.process() == 3
        assert log.read("letters") == []
        assert log.committed("app", "in") is None
        steps.commit()
        assert [seen.value for seen in log.read("letters")] == ["b"]
        assert log.committed("app", "in") == 3

    log.send("in", ("k", "b"))
    with Steps(processing(), log, tmp_path, **settings).start() as steps:
        assert steps.process() == 1
    assert len(log.read("letters")) == 1
    with Steps(processing(), log, tmp_path, **settings).start() as steps:
        assert steps.process() == 1
        steps.commit()
    assert len(log.read("letters")) == 2


# -- what is no fault of the record --------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        BackendError("the disk is full"),
        CorruptDataError("a row is damaged"),
        BrokerError("the log is gone"),
        TaskMigratedError("somebody else has it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_storage_and_log_errors_pass_by_the_handler(error: StreamsError) -> None:
    def fail(_value: Any) -> Any:
        raise error

    builder, handler = StreamsBuilder(), resuming()
    builder.stream("in").map_values(fail).filter(lambda _key, _value: True).to("out")
    with (
        driver(builder, processing_handler=handler) as piped,
        pytest.raises(type(error)) as raised,
    ):
        piped.pipe_raw("in", b"k", b"v", 1)
    assert raised.value is error
    assert handler.asked == []
    assert (error.task_id, error.topic, error.offset) == ("0_0", "in", 0)


@pytest.mark.parametrize("time", list(PunctuationType))
def test_storage_errors_of_punctuations_name_their_task(time: PunctuationType) -> None:
    error = CorruptDataError("a row is damaged")

    class Punctuating(Processor[Any, Any, Any, Any]):
        def init(self, context: Any) -> None:
            def fail(_now_ms: int) -> None:
                raise error

            context.schedule(10, time, fail)

        def process(self, record: Record[Any, Any]) -> None: ...

    builder, handler = StreamsBuilder(), resuming()
    builder.stream("in").process(Punctuating)

    def punctuate(piped: TopologyTestDriver) -> None:
        piped.pipe_raw("in", b"k", b"v", 1)
        piped.advance_wall_clock_time(10)

    with (
        driver(builder, processing_handler=handler) as piped,
        pytest.raises(StorageError) as raised,
    ):
        punctuate(piped)
    assert raised.value is error
    assert error.task_id == "0_0"
    assert handler.asked == []


# -- who is asked, and how often -----------------------------------------------------------


def test_nodes_above_the_one_that_failed_are_not_asked_again() -> None:
    builder, handler = StreamsBuilder(), failing()
    records = builder.stream("in").filter(lambda _key, _value: True).map_values(str.upper)
    records.peek(lambda _key, _value: None).map_values(explode, name="deep").to("out")
    with (
        driver(builder, processing_handler=handler) as piped,
        pytest.raises(ProcessingError, match="node deep"),
    ):
        piped.pipe_raw("in", b"k", b"v", 1)
    assert [context.node for context, _, _ in handler.asked] == ["deep"]


def test_user_code_may_catch_on_its_way_what_stops_the_application() -> None:
    caught: list[StreamsError] = []

    class Catching(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            try:
                self.context.forward(record)
            except ProcessingError as error:
                caught.append(error)
                if record.value == "raise":
                    raise

    builder, handler = StreamsBuilder(), failing()
    builder.stream("in").process(Catching).map_values(explode, name="deep").to("out")
    with driver(builder, processing_handler=handler) as piped:
        piped.pipe_raw("in", b"k", b"pass", 1)
        with pytest.raises(ProcessingError) as raised:
            piped.pipe_raw("in", b"k", b"raise", 2)
    assert type(raised.value) is ProcessingError
    assert isinstance(raised.value.__cause__, ValueError)
    assert [error.offset for error in caught] == [0, 1]
    assert str(caught[1]) == str(raised.value)
    assert [context.node for context, _, _ in handler.asked] == ["deep", "deep"]


def test_siblings_of_a_dropped_record_go_on() -> None:
    builder = StreamsBuilder()
    records = builder.stream("in").flat_map_values(str.split)
    records.map_values(explode_at_b).to("out")
    records.to("all")
    with driver(builder, processing_handler=resuming()) as piped:
        piped.pipe_raw("in", b"k", b"a b c", 1)
        sent = [(record.topic, record.value) for record in piped.take_produced()]
        assert piped.dropped_records_total() == 1
    assert sent == [("out", b"a"), ("all", b"a"), ("all", b"b"), ("out", b"c"), ("all", b"c")]


def test_the_handler_sees_the_record_as_it_reached_the_node() -> None:
    builder, handler = StreamsBuilder(), resuming()
    records = builder.stream("in").map(lambda key, value: (value, key + "!"))
    records.map_values(explode).to("out")
    with driver(builder, processing_handler=handler) as piped:
        piped.pipe_raw("in", b"k", b"v", 8, [("h", None)])
    ((context, record, _),) = handler.asked
    assert (record.key, record.value, record.timestamp) == ("v", "k!", 8)
    assert list(record.headers) == [("h", None)]
    assert (context.raw_key, context.raw_value) == (b"k", b"v")


def test_a_processor_that_raises_is_asked_about() -> None:
    class Broken(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            self.context.forward(record.with_value("before"))
            explode(record.value)

    builder, handler = StreamsBuilder(), resuming()
    builder.stream("in").process(Broken, name="broken").to("out")
    with driver(builder, processing_handler=handler) as piped:
        piped.pipe_raw("in", b"k", b"v", 8)
        assert [record.value for record in piped.take_produced()] == [b"before"]
    assert [context.node for context, _, _ in handler.asked] == ["broken"]


def test_a_punctuation_that_raises_has_no_record() -> None:
    class Punctuating(Processor[Any, Any, Any, Any]):
        def init(self, context: Any) -> None:
            context.schedule(10, PunctuationType.WALL_CLOCK_TIME, explode)

        def process(self, record: Record[Any, Any]) -> None: ...

    def built() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.stream("in").process(Punctuating, name="timer")
        return builder

    handler = Handler(
        lambda context, error: Response.resume(dead_letter(context, error, topic="letters"))
    )
    with driver(built(), processing_handler=handler) as piped:
        piped.pipe_raw("in", b"k", b"v", 8)
        piped.advance_wall_clock_time(10)
        (letter,) = piped.take_produced()
        piped.advance_wall_clock_time(10)
        assert len(handler.asked) == 2
    context, record, error = handler.asked[0]
    assert record is None
    assert (context.topic, context.partition, context.offset) == (None, -1, -1)
    assert (context.timestamp, context.node) == (10, "timer")
    assert isinstance(error, ValueError)
    assert (letter.key, letter.value, letter.timestamp) == (None, None, 10)
    assert dict(letter.headers)["__streams.errors.topic"] is None
    with (
        driver(built()) as piped,
        pytest.raises(ProcessingError, match=r"ValueError: cannot do 10 \[task 0_0, node timer\]"),
    ):
        piped.advance_wall_clock_time(10)


def test_an_error_behind_a_cache_is_told_with_the_record_that_was_cached() -> None:
    builder, handler = StreamsBuilder(), failing()
    counts = builder.stream("in").group_by_key().count(name="counts").to_stream()
    counts.map_values(explode, name="after").to("out")
    with driver(builder, processing_handler=handler, commit="manual") as piped:
        piped.pipe_raw("in", b"k", b"v", 1)
        piped.pipe_raw("in", b"k", b"v", 2)
        with pytest.raises(ProcessingError) as raised:
            piped.commit()
    ((context, record, _),) = handler.asked
    assert (record.key, record.value) == ("k", 2)
    assert (context.topic, context.offset, context.node) == ("in", 1, "after")
    assert (raised.value.topic, raised.value.offset, raised.value.task_id) == ("in", 1, "0_0")


# -- user code at the edges of a chain -----------------------------------------------------


def test_a_negative_timestamp_names_record_and_remedy() -> None:
    with (
        driver(decoding()) as piped,
        pytest.raises(StreamsError, match=r"timestamp is -1.*timestamp_extractor") as raised,
    ):
        piped.pipe_raw("in", b"k", bytes(8), -1)
    assert (raised.value.topic, raised.value.offset, raised.value.node) == ("in", 0, "source")


@pytest.mark.parametrize("answer", [explode, lambda _record: "noon", lambda _record: None])
def test_a_timestamp_extractor_that_fails_is_named_with_its_record(
    answer: Callable[[Any], Any],
) -> None:
    builder = StreamsBuilder()
    builder.stream(
        "in",
        timestamp_extractor=lambda record, _time: 1 if record.value == "a" else answer(record),
        name="source",
    ).to("out")
    with driver(builder) as piped:
        piped.pipe_raw("in", b"k", b"a", 1)
        with pytest.raises(ProcessingError, match="timestamp extractor") as raised:
            piped.pipe_raw("in", b"k", b"v", 1)
    error = raised.value
    assert (error.task_id, error.topic, error.partition, error.offset) == ("0_0", "in", 0, 1)
    assert error.node == "source"


@pytest.mark.parametrize("answer", [explode, lambda _value: "first", lambda _value: 1.5])
def test_a_partitioner_that_fails_is_asked_about(answer: Callable[[Any], Any]) -> None:
    def built() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.stream("in").to(
            "out", partitioner=lambda _topic, _key, value, _count: answer(value), name="sink"
        )
        return builder

    handler = resuming()
    with driver(built(), processing_handler=handler) as piped:
        piped.pipe_raw("in", b"k", b"v", 1)
        assert piped.take_produced() == []
    assert [context.node for context, _, _ in handler.asked] == ["sink"]
    with driver(built()) as piped, pytest.raises(ProcessingError) as raised:
        piped.pipe_raw("in", b"k", b"v", 1)
    assert (raised.value.node, raised.value.topic, raised.value.offset) == ("sink", "in", 0)


@pytest.mark.parametrize("answer", [explode, lambda _value: None, lambda _value: ""])
def test_a_topic_extractor_that_fails_is_asked_about(answer: Callable[[Any], Any]) -> None:
    def built() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.stream("in").to(lambda _key, value, _context: answer(value), name="sink")
        return builder

    handler = resuming()
    with driver(built(), processing_handler=handler) as piped:
        piped.pipe_raw("in", b"k", b"v", 1)
    assert [context.node for context, _, _ in handler.asked] == ["sink"]
    with driver(built()) as piped, pytest.raises(ProcessingError) as raised:
        piped.pipe_raw("in", b"k", b"v", 1)
    assert (raised.value.node, raised.value.topic, raised.value.offset) == ("sink", "in", 0)


def test_init_that_raises_names_its_processor() -> None:
    class Broken(Processor[Any, Any, Any, Any]):
        def init(self, context: Any) -> None:
            explode("init")

        def process(self, record: Record[Any, Any]) -> None: ...

    builder = StreamsBuilder()
    builder.stream("in").process(Broken, name="broken")
    with pytest.raises(ProcessingError, match=r"ValueError: cannot do init") as raised:
        driver(builder)
    assert (raised.value.task_id, raised.value.node) == ("0_0", "broken")


def test_a_supplier_that_raises_names_the_task() -> None:
    builder = StreamsBuilder()
    builder.stream("in").process(lambda: explode("supplier"), name="broken")
    with pytest.raises(
        ProcessingError, match=r"cannot be made: ValueError: cannot do supplier \[task 0_0\]"
    ):
        driver(builder)


def test_every_processor_is_closed_though_one_raises() -> None:
    closed: list[str] = []

    def closing(name: str, fails: bool) -> type[Processor[Any, Any, Any, Any]]:
        class Closing(Processor[Any, Any, Any, Any]):
            def process(self, record: Record[Any, Any]) -> None: ...

            def close(self) -> None:
                closed.append(name)
                if fails:
                    explode(name)

        return Closing

    builder = StreamsBuilder()
    records = builder.stream("in")
    records.process(closing("a", fails=True))
    records.process(closing("b", fails=False))
    opened = driver(builder)
    with pytest.raises(
        ProcessingError, match=r"while it was closed: ValueError: cannot do a.*task 0_0"
    ) as raised:
        opened.close()
    assert isinstance(raised.value.__cause__, ValueError)
    assert sorted(closed) == ["a", "b"]
