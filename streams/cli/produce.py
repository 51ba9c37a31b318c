"""`thalweg produce`: lines of standard input into a topic.

Owns the reading of standard input and the count. The forms of a line are those of `lines`.
It must not know how records are written.
"""

from __future__ import annotations

import logging
import select
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from thalweg.streams.cli import options
from thalweg.streams.cli.exits import UsageError, tell, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from types import FrameType

    from thalweg.streams.cli.lines import Line, Parse
    from thalweg.streams.producer import Producer

_CHUNK_BYTES: Final = 1024 * 1024


@told
def produce(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Where to.", show_default=False)],
    *,
    as_json: Annotated[
        bool,
        options.flag(
            "--json",
            "Each line is an object with value and, if you like, key, timestamp (epoch "
            "milliseconds or ISO 8601), headers, partition.",
        ),
    ] = False,
    key_separator: Annotated[
        str | None,
        typer.Option(
            "--key-separator",
            metavar="TEXT",
            help=r"Stands between key and value of a line; \t is a tab. Without it lines have "
            "no key.",
        ),
    ] = None,
    key_serde: options.KeySerde = "auto",
    value_serde: options.ValueSerde = "auto",
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions", metavar="N", min=1, help="Create the topic with so many partitions."
        ),
    ] = None,
    topic_config: options.TopicConfigs = None,
    settings: options.Set = None,
    config: options.Config = None,
    bootstrap_servers: options.BootstrapServers = None,
    data_dir: options.DataDir = None,
) -> None:
    """Writes each line of standard input to a topic, as a record.

    A topic that does not exist is created. Lines that were read are committed before standard
    input is waited for, and at the end; at a bad line it stops, and those before it stay.
    """
    from thalweg.streams.cli.lines import json_lines, plain_lines, serde_or_none
    from thalweg.streams.cli.settings import given_settings, log_config
    from thalweg.streams.cli.topics import topic_configs_of
    from thalweg.streams.clock import SystemClock
    from thalweg.streams.observe import logs
    from thalweg.streams.producer import Producer

    # Who types is told that a log is made; what a program reads stays as it was.
    logs.install("people", "warning", notices=sys.stderr.isatty())
    given = given_settings(
        settings or (), config, {"bootstrap_servers": bootstrap_servers, "data_dir": data_dir}
    )
    keys, values = serde_or_none(key_serde), serde_or_none(value_serde)
    if as_json and key_separator is not None:
        message = "--json and --key-separator are two forms of a line; give one"
        raise UsageError(message)
    if key_separator == "":
        message = "--key-separator must not be empty"
        raise UsageError(message)
    if as_json:
        parse = json_lines(keys, values)
    else:
        separator = None if key_separator is None else key_separator.replace("\\t", "\t")
        parse = plain_lines(keys, values, separator)
    settled = log_config(given)
    configs = topic_configs_of(topic_config or (), is_local=settled.is_local)
    producer = Producer(settled)
    try:
        with _told_here("thalweg.streams.transport.log.cleaner"), producer:
            is_new = not producer.has_topic(topic)
            if configs and not is_new:
                message = (
                    f"topic {topic!r} exists, and --topic-config is for a new one; "
                    f"thalweg topics config {topic} changes it"
                )
                raise UsageError(message)
            if partitions is not None or is_new:
                count = partitions or settled.default_partitions
                producer.create_topic(topic, count, configs=configs)
            if is_new:
                _tell_similar(producer, topic)
            aged = _Aged(parse, producer.retention_ms(topic), SystemClock().now_ms())
            _send_lines(producer, topic, aged)
    except BaseException:
        if producer.committed_records:
            _tell_count(producer, topic)
        raise
    _tell_count(producer, topic)
    aged.tell(topic)


@contextmanager
def _told_here(name: str) -> Iterator[None]:
    """Keeps a logger's warnings back: what it warns of is told here, with how much it is about."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Aged:
    """Reads lines, and counts the records that the topic's retention deletes at once.

    Args:
        parse: reads a line.
        retention_ms: of the topic; None where it keeps its records.
        now_ms: the time.
    """

    def __init__(self, parse: Parse, retention_ms: int | None, now_ms: int) -> None:
        self._parse = parse
        self._retention_ms = retention_ms
        self._oldest_ms = None if retention_ms is None else now_ms - retention_ms
        self._count = 0

    def __call__(self, line: bytes) -> Line | None:
        row = self._parse(line)
        oldest_ms = self._oldest_ms
        if oldest_ms is not None and row is not None and row.timestamp is not None:
            self._count += row.timestamp < oldest_ms
        return row

    def tell(self, topic: str) -> None:
        """Says how many there were."""
        if self._count:
            count = f"{self._count:,} {'record is' if self._count == 1 else 'records are'}"
            tell(
                f"{count} older than the retention.ms of {topic}, {self._retention_ms:,}: the log "
                f"deletes them at once or soon. thalweg topics config {topic} retention.ms=-1 "
                "keeps records for ever"
            )


def _tell_similar(producer: Producer, topic: str) -> None:
    """Says that a topic is new where another one may have been meant."""
    from thalweg.streams.similar_names import similar_names

    if alike := similar_names(topic, producer.topics()):
        tell(f"{topic} is a new topic; is one of these meant: {', '.join(alike)}?")


def _tell_count(producer: Producer, topic: str) -> None:
    count = producer.committed_records
    tell(f"{count:,} {'record' if count == 1 else 'records'} written to {topic}")


def _send_lines(producer: Producer, topic: str, parse: Parse) -> None:
    from thalweg.streams.cli.lines import chunks_of_lines

    source = cast("BufferedReader", sys.stdin.buffer)
    number = 0
    with _between_lines() as stop:
        for lines in chunks_of_lines(stop.reading(lambda: source.read1(_CHUNK_BYTES))):
            number = _send(producer, topic, parse, lines, number, stop)
            if not _has_more():
                producer.flush()


def _send(
    producer: Producer, topic: str, parse: Parse, lines: list[bytes], number: int, stop: _Stop
) -> int:
    """Sends lines, of which `number` came before; returns how many it were by now."""
    for line in lines:
        number += 1
        try:
            row = parse(line)
        except UsageError as error:
            message = f"line {number}: {error}"
            raise UsageError(message) from error
        if row is not None:
            producer.send(
                topic,
                row.value,
                key=row.key,
                key_serde=row.key_serde,
                value_serde=row.value_serde,
                timestamp=row.timestamp,
                headers=row.headers,
                partition=row.partition,
            )
        stop.if_asked()
    return number


class _Stop:
    """Lets a first signal wait for the line in hand: a commit must not be cut in two."""

    def __init__(self) -> None:
        self._is_asked = False
        self._is_reading = False

    def reading(self, read: Callable[[], bytes]) -> Callable[[], bytes]:
        """Returns a `read` that a signal ends at once."""

        def interruptible() -> bytes:
            self._is_reading = True
            try:
                self.if_asked()
                return read()
            finally:
                self._is_reading = False

        return interruptible

    def if_asked(self) -> None:
        """Raises KeyboardInterrupt if a signal came."""
        if self._is_asked:
            raise KeyboardInterrupt

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Is the handler of signals; a second one ends everything at once."""
        if self._is_reading or self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True


@contextmanager
def _between_lines() -> Iterator[_Stop]:
    """Has SIGINT and SIGTERM stop between two lines while it lasts; in the main thread."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    before = {number: signal.signal(number, stop.ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_more() -> bool:
    """Tells whether standard input can be read without waiting."""
    try:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], 0)
    except (OSError, ValueError):  # standard input is no file: nobody waits for it
        return True
    return bool(ready)
