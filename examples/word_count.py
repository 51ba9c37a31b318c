"""Counts words, and as a demo those of Python's own standard library.

    python -m examples.word_count            # about 300,000 lines, a million words
    python -m examples.word_count FILE       # any other text

The topology is the part above `app`. The rest writes lines to its topic, shows the progress and
queries the store. Run it again: it continues where it stopped and counts nothing twice.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from heapq import nlargest
from pathlib import Path
from shlex import quote
from zlib import crc32

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from thalweg import (
    App,
    State,
    StreamsBuilder,
    StreamsConfig,
    StreamsError,
    serdes,
)

words_of = re.compile(r"[a-z]+").findall

builder = StreamsBuilder()
(
    builder.stream("lines", key_serde=serdes.string, value_serde=serdes.string)
    .flat_map_values(lambda line: words_of(line.lower()))
    .group_by(lambda _file, word: word, key_serde=serdes.string, value_serde=serdes.string)
    .count(name="counts")
    .to_stream()
    .to("word-counts", key_serde=serdes.string, value_serde=serdes.int64)
)
app = App(builder, application_id="word-count")


# -- the demo ------------------------------------------------------------------------------

_NOT_READ = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages"}


def library_files() -> Iterator[Path]:
    """Finds the sources of the running Python's standard library, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if _NOT_READ.isdisjoint(path.relative_to(library).parts):
            yield path


def lines_of(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Reads (file name, line) of text files, without the lines that are empty."""
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if text := line.strip():
                    yield path.name, text


class Feed(threading.Thread):
    """Writes lines to the topic, going on behind those that are there already.

    Lines are written in a fixed order and whole batches of them at once, so that their number
    in the topic tells where to go on, whenever the last run was stopped.
    """

    def __init__(self, app: App, paths: list[Path]) -> None:
        super().__init__(name="feed", daemon=True)
        self.skipped = 0
        self.sent = 0
        self.error: Exception | None = None
        self._app = app
        self._paths = paths
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Writes until all is written or `stop` is called."""
        try:
            with self._app.producer() as producer:
                there = producer.record_count("lines")
                for number, (name, line) in enumerate(lines_of(self._paths)):
                    if number < there:
                        self.skipped = number + 1
                        continue
                    if self._stop_asked.is_set():
                        return
                    producer.send(
                        "lines",
                        line,
                        key=name,
                        key_serde=serdes.string,
                        value_serde=serdes.string,
                    )
                    self.sent += 1
        except (StreamsError, OSError) as error:
            self.error = error

    def stop(self) -> None:
        """Stops writing after the record in hand."""
        self._stop_asked.set()


def demo(app: App, paths: list[Path], console: Console) -> None:
    """Feeds the application, shows its progress, then asks for the most frequent words."""
    started = time.perf_counter()
    feed = Feed(app, paths)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with app, Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task("starting", total=None)
        feed.start()
        first_seconds = None
        try:
            while not _is_done(app, feed):
                app.wait_for(State.ERROR, timeout=timedelta(milliseconds=50))
                if app.state.has_finished:
                    break
                progress = app.progress()
                if progress is None:
                    continue
                if first_seconds is None and progress.processed_records:
                    first_seconds = time.perf_counter() - started
                doing = (
                    f"restoring, {progress.remaining_restore_records:,} records to go"
                    if progress.restoring_tasks
                    else f"{progress.processed_records:,} records, {progress.lag_records:,} to go"
                )
                bar.update(shown, description=doing)
        except KeyboardInterrupt:
            console.print("stopping; run it again to go on")
        feed.stop()
        feed.join()
        if feed.error is not None:
            raise feed.error
        if app.error is not None:
            raise app.error
        seconds = time.perf_counter() - started
        counts = app.store("counts").all()
        with counts as rows:
            found = list(rows)
    _report(console, app, feed, found, seconds, first_seconds)


def _is_done(app: App, feed: Feed) -> bool:
    progress = app.progress()
    return (
        not feed.is_alive()
        and app.state is State.RUNNING
        and progress is not None
        and progress.lag_records == 0
    )


def _report(
    console: Console,
    app: App,
    feed: Feed,
    found: list[tuple[str, int]],
    seconds: float,
    first_seconds: float | None,
) -> None:
    # As a line of its own: a title is as narrow as its table.
    console.print(f"{sum(n for _, n in found):,} words, {len(found):,} different ones")
    table = Table()
    table.add_column("word")
    table.add_column("count", justify="right")
    for word, count in nlargest(10, found, key=lambda row: row[1]):
        table.add_row(word, f"{count:,}")
    console.print(table)
    before = f" ({feed.skipped:,} were there already)" if feed.skipped else ""
    first = "" if first_seconds is None else f", the first record after {first_seconds:.2f} s"
    console.print(f"{feed.sent:,} lines written{before}; {seconds:.1f} s in all{first}.")
    config = app.config
    console.print(f"The log is in {config.data_dir}, the counts are in {config.state_dir}.")
    console.print("Next, type one of:")
    top = max(found, key=lambda row: row[1], default=("import", 0))[0]
    log = state = ""
    if config.data_dir != StreamsConfig(application_id=app.application_id).data_dir:
        log = f" --data-dir {quote(str(config.data_dir))}"
        state = f" --state-dir {quote(str(config.state_dir))}"
    for command in (
        f"thalweg query examples/word_count.py counts --key {top}{log}{state}",
        f"thalweg consume word-counts --key-serde string --value-serde int64 --max 5{log}",
        "thalweg topology examples/word_count.py",
        f"thalweg reset examples/word_count.py --yes{log}{state}",
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def main(arguments: list[str]) -> int:
    """Runs the demo; an argument names another text than the standard library."""
    console = Console()
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        console.print(__doc__)
        return 0 if len(arguments) == 1 else 2
    counted, paths = app, list(library_files())
    if arguments:
        path = Path(arguments[0])
        if not path.is_file():
            console.print(f"{path} is not a file; give the name of a text file", style="red")
            return 2
        # Texts of one name in different places are different texts.
        place = crc32(str(path.resolve()).encode())
        home = Path(".thalweg") / f"{path.stem}-{place:08x}"
        paths = [path]
        counted = App(
            builder, application_id="word-count", data_dir=home / "log", state_dir=home / "state"
        )
    try:
        demo(counted, paths, console)
    except (StreamsError, OSError) as error:
        console.print(str(error), style="red", highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
