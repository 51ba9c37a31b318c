"""What goes wrong by what an application is given: a clear error, and nothing lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.broker.broker import Broker, free_ports
from tests.broker.records import Topics, unique
from tests.broker.workers import ROOT, WORD_COUNT
from tests.waiting import HANG_S, wait_until
from thalweg import (
    App,
    DeadLetter,
    ErrorContext,
    OutgoingRecord,
    Response,
    State,
    StreamsBuilder,
    StreamsError,
    serdes,
)
from thalweg.streams.errors import (
    DeserializationError,
    MissingTopicsError,
    ProductionError,
    TopologyError,
)

TEXT: Mapping[str, Any] = {
    "default_key_serde": serdes.string,
    "default_value_serde": serdes.string,
}


@pytest.fixture
def topics(kafka: str) -> Topics:
    return Topics(kafka)


@pytest.fixture
def application(topics: Topics, tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Makes applications of one name that go on with one another's work; closes them."""
    name = unique("bad")
    made: list[App] = []

    def make(builder: StreamsBuilder, **settings: Any) -> App:
        given = {"commit_interval_ms": 100, "state_dir": tmp_path, **TEXT, **settings}
        app = App(builder, application_id=name, bootstrap_servers=topics.servers, **given)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close(timedelta(seconds=HANG_S))


def failure(app: App) -> StreamsError:
    """Starts an application, if it is not, waits until it has failed, and returns why."""
    try:
        if app.state is State.CREATED:
            app.start()
    except StreamsError as error:
        return error
    app.wait_for(State.ERROR, timeout=timedelta(seconds=HANG_S))
    assert app.error is not None, f"it did not fail: {app.state}"
    return app.error


def written(topics: Topics, topic: str, count: int) -> list[bytes | None]:
    """Returns the values of a topic, once there are so many."""
    values: list[bytes | None] = []

    def enough() -> bool:
        values[:] = [record.value for record in topics.read(topic)]
        return len(values) >= count

    wait_until(enough, HANG_S, lambda: f"{count} records, but {values[:20]}")
    return values


def dropped(app: App) -> float:
    """Returns how many records the application says it dropped."""
    return sum(float(one.value) for one in app.metrics() if one.name == "dropped-records-total")


# -- records -------------------------------------------------------------------------------


def test_a_record_that_cannot_be_read_stops_the_application_before_it(
    topics: Topics, application: Callable[..., App]
) -> None:
    source, sink = topics.create(unique("in")), topics.create(unique("out"))
    good = [b"one", b"two", b"four"]
    topics.produce(source, [(b"k", b"one"), (b"k", b"two"), (b"k", b"\xff\xfe"), (b"k", b"four")])
    builder = StreamsBuilder()
    builder.stream(source).to(sink)

    app = application(builder, processing_guarantee="exactly_once_v2")
    error = failure(app)
    app.close()

    assert isinstance(error, DeserializationError)
    assert (error.topic, error.partition, error.offset) == (source, 0, 2)
    assert topics.committed(app.application_id, source).get(0, 0) <= 2

    # Whoever decides to go on without it has everything else, once.
    settings = {"deserialization_handler": "log_and_continue"}
    with application(builder, processing_guarantee="exactly_once_v2", **settings) as app:
        assert written(topics, sink, 3) == good
        wait_until(lambda: dropped(app) == 1, HANG_S, lambda: f"1 dropped, but {dropped(app)}")
    assert [record.value for record in topics.read(sink)] == good
    assert topics.committed(app.application_id, source)[0] == 4


def test_records_that_cannot_be_read_go_to_a_dead_letter_queue(
    topics: Topics, application: Callable[..., App]
) -> None:
    source, sink, dead = (topics.create(unique(name)) for name in ("in", "out", "dead"))
    topics.produce(source, [(b"k", b"one"), (b"k", b"\xff\xfe"), (b"k", b"three")])
    builder = StreamsBuilder()
    builder.stream(source).to(sink)

    settings = {"deserialization_handler": "log_and_continue", "dead_letter_queue_topic": dead}
    with application(builder, **settings):
        assert written(topics, sink, 2) == [b"one", b"three"]
        assert written(topics, dead, 1) == [b"\xff\xfe"]


def test_records_without_a_key_are_not_counted(
    topics: Topics, application: Callable[..., App]
) -> None:
    source, sink = topics.create(unique("in")), topics.create(unique("out"))
    topics.produce(source, [(b"k", b"1"), (None, b"2"), (b"k", b"3"), (None, b"4")])
    builder = StreamsBuilder()
    counts = builder.stream(source).group_by_key().count()
    counts.to_stream().to(sink, value_serde=serdes.int64)

    with application(builder, statestore_cache_max_bytes=0) as app:
        assert written(topics, sink, 2) == [serdes.int64.serializer("")(n) for n in (1, 2)]
        wait_until(lambda: dropped(app) == 2, HANG_S, lambda: f"2 dropped, but {dropped(app)}")


@pytest.mark.parametrize("limit", ["of the client", "of the topic"])
def test_a_record_too_large_stops_the_application_before_it(
    topics: Topics, application: Callable[..., App], limit: str
) -> None:
    size = 2_000_000 if limit == "of the client" else 20_000
    source = topics.create(unique("in"))
    most = "10000" if limit == "of the topic" else "5000000"
    sink = topics.create(unique("out"), max_message_bytes=most)
    topics.produce(source, [(b"k", b"1"), (b"k", b"grow"), (b"k", b"3")])
    builder = StreamsBuilder()
    builder.stream(source).map_values(lambda v: "x" * size if v == "grow" else v).to(sink)

    app = application(builder, processing_guarantee="exactly_once_v2")
    error = failure(app)
    app.close()

    assert isinstance(error, ProductionError)
    assert sink in str(error)
    assert "max.message.bytes" in str(error)
    assert topics.committed(app.application_id, source).get(0, 0) <= 1

    # What the message asks for is enough to go on, with nothing lost or doubled.
    topics.configure(sink, max_message_bytes="5000000")
    settings = {"producer_configs": {"message.max.bytes": 5_000_000}}
    with application(builder, processing_guarantee="exactly_once_v2", **settings):
        assert written(topics, sink, 3) == [b"1", b"x" * size, b"3"]


def test_a_record_kafka_refuses_is_the_production_handlers_affair(
    topics: Topics, application: Callable[..., App]
) -> None:
    source, sink, letters = (topics.create(unique(name)) for name in ("in", "out", "letters"))
    topics.produce(source, [(b"k", b"1"), (b"k", b"grow"), (b"k", b"3")])
    builder = StreamsBuilder()
    grown = builder.stream(source).map_values(lambda v: "x" * 2_000_000 if v == "grow" else v)
    grown.to(sink, name="the-sink")
    asked: list[tuple[str, Any]] = []

    def go_on(context: ErrorContext, record: OutgoingRecord, error: Exception) -> Response:
        asked.append((context.node, record.topic))
        assert isinstance(error, ProductionError)
        return Response.resume(DeadLetter(letters, record.key, b"too large"))

    with application(builder, production_handler=go_on) as app:
        assert written(topics, sink, 2) == [b"1", b"3"]
        assert written(topics, letters, 1) == [b"too large"]
        wait_until(
            lambda: topics.committed(app.application_id, source).get(0) == 3,
            HANG_S,
            lambda: str(topics.committed(app.application_id, source)),
        )
        assert refused_records(app) == 1
    assert asked == [("the-sink", sink)]


def refused_records(app: App) -> float:
    """Returns how many records the application went on without because Kafka refused them."""
    return sum(float(one.value) for one in app.metrics() if one.name == "refused-records-total")


def test_user_code_that_raises_stops_the_application_before_the_record(
    topics: Topics, application: Callable[..., App]
) -> None:
    source, sink = topics.create(unique("in")), topics.create(unique("out"))
    topics.produce(source, [(b"k", b"1"), (b"k", b"x"), (b"k", b"3")])
    builder = StreamsBuilder()
    builder.stream(source).map_values(lambda value: str(int(value))).to(sink)

    app = application(builder, processing_guarantee="exactly_once_v2")
    error = failure(app)
    app.close()

    assert (error.topic, error.offset) == (source, 1), error
    assert isinstance(error.__cause__, ValueError)

    settings = {"processing_handler": "log_and_continue"}
    with application(builder, processing_guarantee="exactly_once_v2", **settings):
        assert written(topics, sink, 2) == [b"1", b"3"]


# -- topics --------------------------------------------------------------------------------


def test_partition_counts_that_do_not_fit_are_named(
    topics: Topics, application: Callable[..., App]
) -> None:
    left, right = topics.create(unique("left"), 2), topics.create(unique("right"), 3)
    builder = StreamsBuilder()
    joined = builder.stream(left).join(builder.table(right), lambda one, other: one + other)
    joined.to(topics.create(unique("out")))
    app = application(builder)

    error = failure(app)

    assert isinstance(error, TopologyError)
    assert left in str(error)
    assert right in str(error)


def test_a_topic_that_is_made_after_it_was_missed_is_read(
    topics: Topics, application: Callable[..., App]
) -> None:
    source, sink = unique("in"), topics.create(unique("out"))
    builder = StreamsBuilder()
    builder.stream(source).to(sink)
    error = failure(application(builder))
    assert isinstance(error, MissingTopicsError)
    assert source in str(error)

    topics.create(source)
    topics.produce(source, [(b"k", b"late")])

    with application(builder):
        assert written(topics, sink, 1) == [b"late"]


# -- what is typed -------------------------------------------------------------------------


def run(
    servers: str, *options: str, through: Sequence[str] = (), **topics: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command with a script that is right, but for its topics, to its end.

    Args:
        servers: bootstrap servers.
        options: of the command.
        through: a command that runs the command.
        topics: those that are there, by the names that the script asks for.
    """
    missing = {name: unique(f"missing-{name}") for name in ("LINES", "COUNTS", "APPLICATION")}
    names = {**missing, **topics}
    command = [sys.executable, "-m", "thalweg.streams.cli", "run", str(WORD_COUNT)]
    return subprocess.run(
        [*through, *command, "--bootstrap-servers", servers, *options],
        env={**os.environ, **names},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )


def refused(done: subprocess.CompletedProcess[str], code: int, told: str) -> None:
    """Checks that a command ended with an error for people."""
    assert done.returncode == code, done
    assert re.search(told, done.stderr), done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_missing_topic_is_named(kafka: str, tmp_path: Path) -> None:
    done = run(kafka, "--state-dir", str(tmp_path))

    refused(done, 2, "missing-LINES-")


def clients(path: Path, **configs: dict[str, str]) -> Path:
    """Writes the settings of clients into a file."""
    lines = []
    for name, values in configs.items():
        lines += [f"[{name}]", *(f'"{key}" = "{value}"' for key, value in values.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("wrong", ["consumer_configs", "producer_configs", "admin_configs"])
def test_wrong_credentials_of_any_client_are_no_crash(
    broker: Broker, tmp_path: Path, wrong: str
) -> None:
    """A supervisor would try again what a crash ends, and not what ends with 2."""
    right = broker.sasl_configs
    servers = right.pop("bootstrap.servers")
    configs = {
        name: {**right, "sasl.password": "open sesame"} if name == wrong else right
        for name in ("consumer_configs", "producer_configs", "admin_configs")
    }
    settings = clients(tmp_path / "clients.toml", **configs)
    topics = Topics(broker.bootstrap_servers)
    names = {name: topics.create(unique(name.lower())) for name in ("LINES", "COUNTS")}
    topics.produce(names["LINES"], [(None, b"a b")])

    done = run(servers, "--config", str(settings), "--state-dir", str(tmp_path), **names)

    refused(done, 2, r"sasl\.password")
    assert "open sesame" not in done.stderr


def test_a_missing_certificate_is_no_broker_that_is_waited_for(
    broker: Broker, tmp_path: Path
) -> None:
    configs = broker.tls_configs
    servers = configs.pop("bootstrap.servers")
    del configs["ssl.certificate.location"], configs["ssl.key.location"]
    settings = clients(tmp_path / "clients.toml", consumer_configs=configs)

    done = run(servers, "--config", str(settings), "--state-dir", str(tmp_path))

    refused(done, 2, "the certificate in consumer_configs")


def test_a_port_in_use_is_named(kafka: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = run(
            kafka, "--state-dir", str(tmp_path), "--set", f"application_server=127.0.0.1:{port}"
        )

    refused(done, 2, f"{port} is in use")


def test_a_file_where_a_directory_should_be_is_named(kafka: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run(kafka, "--state-dir", str(tmp_path / "file" / "state"))

    refused(done, 1, f"{tmp_path}/file/state.* move it, or set another state_dir")


def bound_by_permissions() -> list[str]:
    """Returns a command that runs another for which permissions of files count.

    Root may write anywhere, but not without the capability that says so.
    """
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override", "--"]


@pytest.mark.parametrize("is_made", [False, True], ids=["above", "itself"])
def test_a_directory_that_cannot_be_written_is_named(
    kafka: str, tmp_path: Path, is_made: bool
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    state = directory if is_made else directory / "of-mine"
    directory.chmod(0o555)

    done = run(kafka, "--state-dir", str(state), through=bound_by_permissions())

    refused(done, 1, f"{state}.*: Permission denied; make it writable, or set another state_dir")
    assert not list(directory.iterdir())


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("comit_interval_ms=1", "did you mean 'commit_interval_ms'"),
        ("consumer_configs.fetch.wait.ms=1", "fetch.wait.ms"),
        ("consumer_configs.group.id=other", "group.id.*application_id"),
        ("producer_configs.acks=1", "acks"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    kafka: str, tmp_path: Path, setting: str, told: str
) -> None:
    refused(run(kafka, "--state-dir", str(tmp_path), "--set", setting), 2, told)


def test_a_broker_that_cannot_be_reached_is_named_and_waited_for(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    command = [sys.executable, "-m", "thalweg.streams.cli", "run", str(WORD_COUNT)]
    options = ["--bootstrap-servers", nobody, "--state-dir", str(tmp_path), "--no-progress"]
    names = {name: unique(f"missing-{name}") for name in ("LINES", "COUNTS", "APPLICATION")}
    with subprocess.Popen(
        [*command, *options],
        env={**os.environ, **names},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        told = next(line for line in waiting.stderr if "waiting for the brokers" in line)
        waiting.send_signal(signal.SIGTERM)
        waiting.stderr.read()
        assert waiting.wait() == 0

    assert re.search(f"{nobody}.*check bootstrap_servers", told), told


def test_wrong_credentials_are_told_and_never_shown(broker: Broker, tmp_path: Path) -> None:
    configs = {**broker.sasl_configs, "sasl.password": "open sesame"}
    servers = configs.pop("bootstrap.servers")
    given = [
        text
        for name, value in configs.items()
        for text in ("--set", f"consumer_configs.{name}={value}")
    ]

    done = run(servers, "--state-dir", str(tmp_path), *given)

    refused(done, 2, "sasl.password")
    assert "open sesame" not in done.stderr + done.stdout
