"""Workers as people run them: processes of `thalweg run`, started, ended and asked."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.broker.broker import dying_with_parent, free_ports
from tests.broker.groups import configure_group
from tests.broker.records import Follower, Record, Topics, unique
from tests.waiting import HANG_S, wait_until
from thalweg import serdes
from thalweg.rebalance.values import Endpoint
from thalweg.streams.observe.status import TaskStatus, instance_at

ROOT = Path(__file__).parents[2]
WORD_COUNT = Path(__file__).with_name("word_count.py")


class Answer:
    """What a worker answered to a question over HTTP."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.text = response.text

    @property
    def body(self) -> Any:
        """The answer's JSON."""
        return json.loads(self.text)


class Worker:
    """One worker process with state of its own.

    Args:
        name: names its state and its log.
        home: where both are kept.
        options: of `thalweg run`.
        environment: beside this process's own.
        script: what it runs.
        port: where it answers; 0 for one that it does not tell, as of one among several.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        options: list[str],
        environment: Mapping[str, str],
        script: Path = WORD_COUNT,
        port: int | None = None,
    ) -> None:
        self.name = name
        self._script = script
        self.state = home / name
        self.port = free_ports(1)[0] if port is None else port
        self.log_file = home / f"{name}.log"
        self._options = options
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ended = False

    # -- its life ------------------------------------------------------------------------

    def start(self) -> Worker:
        """Starts the process and returns at once."""
        command = dying_with_parent(
            *(
                sys.executable,
                "-m",
                "thalweg.streams.cli",
                "run",
                str(self._script),
                *self._options,
            ),
            *("--state-dir", str(self.state)),
            *("--set", f"application_server=127.0.0.1:{self.port}"),
        )
        self._is_ended = False
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=ROOT,
                start_new_session=True,
            )
        return self

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def has_failed(self) -> bool:
        """Whether the process has ended without having been asked to."""
        return self._process is not None and not self.is_alive and not self._is_ended

    def children(self) -> dict[str, int]:
        """Returns the worker processes it supervises: the name of their state -> process id."""
        assert self._process is not None
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self._process.pid:
                    arguments = (process / "cmdline").read_bytes().decode().split("\0")
                    state = Path(arguments[arguments.index("--state-dir") + 1])
                    found[state.name] = int(process.name)
        return found

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """Asks it to stop with SIGTERM, and returns its exit code."""
        self._is_ended = True
        self.signal(signal.SIGTERM)
        assert self._process is not None
        return self._process.wait(HANG_S)

    def kill(self) -> None:
        """Ends it, whatever it is doing; nothing to do if it is gone."""
        self._is_ended = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    # -- what it says --------------------------------------------------------------------

    @property
    def log(self) -> str:
        """All it has written, in all its lives."""
        return self.log_file.read_text(errors="replace")

    @property
    def restored(self) -> int:
        """How many changelog records it restored in its last life, by its last words."""
        *_, summary = self.log.strip().splitlines()
        found = re.search(r"([\d,]+) changelog records? restored", summary)
        assert " in " in summary, summary
        return 0 if found is None else int(found[1].replace(",", ""))

    def ask(self, path: str, timeout: float = HANG_S) -> Answer:
        """Asks over HTTP.

        Raises:
            httpx.HTTPError: it does not answer.
        """
        return Answer(httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=timeout))

    @property
    def is_ready(self) -> bool:
        """Whether all its stores are restored and its tasks run."""
        try:
            return self.ask("/ready").status == 200
        except httpx.HTTPError:
            return False

    def partitions(self) -> set[tuple[str, int]]:
        """Returns the topic partitions its tasks read now, empty if it does not answer."""
        try:
            answer = self.ask("/metadata")
        except httpx.HTTPError:
            return set()
        if answer.status != 200:
            return set()
        own = next(one for one in answer.body["instances"] if one["is_this"])
        return {(t, n) for t, numbers in own["topic_partitions"].items() for n in numbers}

    def tasks(self, state: str) -> dict[str, TaskStatus]:
        """Returns its tasks in a state by their ids, empty if it does not answer."""
        told = instance_at(Endpoint("127.0.0.1", self.port)).tasks
        return {task.task_id: task for task in told if task.state == state}


class WordCount:
    """An application of some workers that count words, its input, and the truth.

    Args:
        servers: bootstrap servers.
        home: for state and logs.
        partitions: of all its topics.
        script: what the workers run; counts words as `word_count` does.
        environment: of all workers, beside what the script needs.
        commit_often: whether to commit more often than by default.
        settings: of all workers, by the names of `StreamsConfig`.
    """

    def __init__(
        self,
        servers: str,
        home: Path,
        partitions: int = 4,
        *,
        script: Path = WORD_COUNT,
        environment: Mapping[str, str] | None = None,
        commit_often: bool = True,
        **settings: Any,
    ) -> None:
        self._script = script
        self.topics = Topics(servers)
        self.application_id = unique("words")
        self.home = home
        self.lines = self.topics.create(unique("lines"), partitions)
        self.counts = self.topics.create(unique("counts"), partitions)
        self.repartition = f"{self.application_id}-counts-repartition"
        self.changelog = f"{self.application_id}-counts-changelog"
        self.partitions = partitions
        self.truth: Counter[str] = Counter()
        self.workers: dict[str, Worker] = {}
        self._rng = random.Random(20260701)
        self._feeds = 0
        self._outputs: dict[str, list[int]] = defaultdict(list)
        self._follower = Follower(self.topics, self.counts)
        given = {"commit_interval_ms": 200, **settings} if commit_often else settings
        self._options = [
            *("--bootstrap-servers", servers, "--log-level", "info"),
            *(text for name, value in given.items() for text in ("--set", f"{name}={value}")),
        ]

        self._environment = {
            "LINES": self.lines,
            "COUNTS": self.counts,
            "APPLICATION": self.application_id,
            **(environment or {}),
        }

    # -- workers -------------------------------------------------------------------------

    def start(self, *names: str) -> list[Worker]:
        """Starts workers, known or new, and returns at once."""
        for name in names:
            if name not in self.workers:
                self.workers[name] = Worker(
                    name, self.home, self._options, self._environment, self._script
                )
            self.workers[name].start()
        return [self.workers[name] for name in names]

    def start_together(self, count: int) -> Worker:
        """Starts workers under one supervisor, which is returned at once."""
        options = [*self._options, "--workers", str(count)]
        together = Worker("together", self.home, options, self._environment, port=0)
        self.workers[together.name] = together
        return together.start()

    def status(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs `thalweg status` of the script to its end.

        Args:
            options: of the command.
            environment: what differs from that of the workers.
        """
        servers = {"THALWEG_BOOTSTRAP_SERVERS": self.topics.servers}
        return subprocess.run(
            [sys.executable, "-m", "thalweg.streams.cli", "status", str(WORD_COUNT), *options],
            capture_output=True,
            text=True,
            timeout=HANG_S,
            env={**os.environ, **self._environment, **servers, **environment},
            cwd=ROOT,
            check=False,
        )

    def configure_group(self, **values: int) -> None:
        """Changes what the broker keeps for this group alone; see `groups.configure_group`."""
        servers = {"bootstrap.servers": self.topics.servers}
        configure_group(servers, self.application_id, **values)

    @property
    def alive(self) -> list[Worker]:
        """The workers whose processes are there."""
        return [worker for worker in self.workers.values() if worker.is_alive]

    def wait_shared(self, within_s: float = HANG_S) -> None:
        """Waits until each partition is read by one living worker, and each has some.

        That is what the workers say: one that cannot do anything says so as well.
        """
        wanted = {
            (topic, number)
            for topic in (self.lines, self.repartition)
            for number in range(self.partitions)
        }

        def is_shared() -> bool:
            owned = [worker.partitions() for worker in self.alive]
            total = sum(map(len, owned))
            return all(owned) and total == len(wanted) and set().union(*owned) == wanted

        self.wait(is_shared, within_s, "sharing of all partitions")
        self.wait(lambda: all(worker.is_ready for worker in self.alive), within_s, "readiness")

    def wait(
        self, condition: Callable[[], bool], within_s: float, what: str | Callable[[], str]
    ) -> None:
        """Waits until something is true, but not when a worker has failed.

        Raises:
            TimeoutError: it did not become true in time.
            AssertionError: a worker has ended by itself.
        """

        def is_true() -> bool:
            failed = [worker.name for worker in self.workers.values() if worker.has_failed]
            assert not failed, f"{failed} ended while waiting\n{self.logs()}"
            return condition()

        def said() -> str:
            return f"{what if isinstance(what, str) else what()}\n{self.logs()}"

        wait_until(is_true, within_s, said)

    def stop(self) -> None:
        """Stops all workers, and checks that each went in order."""
        codes = {worker.name: worker.stop() for worker in self.alive}
        assert set(codes.values()) == {0}, f"{codes}\n{self.logs()}"

    def logs(self) -> str:
        """Returns the end of all logs, for messages."""
        return "\n".join(
            f"--- {worker.name} ({'alive' if worker.is_alive else 'gone'})\n{worker.log[-3000:]}"
            for worker in self.workers.values()
        )

    def close(self) -> None:
        """Ends all workers."""
        for worker in self.workers.values():
            worker.kill()
        self._follower.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends all workers."""
        self.close()

    # -- input and output ----------------------------------------------------------------

    def feed(self, lines: int = 400, words: int = 6, vocabulary: int = 300) -> None:
        """Writes lines of random words to all partitions, and counts them.

        A third of the words belong to this call alone: that they are counted shows that these
        very lines were processed, where others may have been counted twice.
        """
        self._feeds += 1

        def word(place: int) -> str:
            number = self._rng.randrange(vocabulary)
            return f"w{number}" if place % 3 else f"w{self._feeds}-{number}"

        made = [[word(place) for place in range(words)] for _ in range(lines)]
        for line in made:
            self.truth.update(line)
        self.topics.produce(
            self.lines, ((b"%d" % n, " ".join(line).encode()) for n, line in enumerate(made))
        )

    def wait_processed(self, within_s: float = HANG_S) -> None:
        """Waits until all lines there are now are committed, by the broker, and counted.

        Lines that were written after something happened show that each partition has somebody
        who gets on with it, whatever the workers say.
        """
        ends = self.topics.ends(self.lines)

        def committed() -> dict[int, int]:
            return self.topics.committed(self.application_id, self.lines)

        self.wait(
            lambda: all(committed().get(number, 0) >= end for number, end in ends.items()),
            within_s,
            lambda: f"commits up to {ends}: {committed()}",
        )
        self.wait_counted(within_s)

    def outputs(self) -> dict[str, list[int]]:
        """Returns word -> all counts that were written so far, in order."""
        for record in self._follower.more():
            self._note(record, self._outputs)
        return self._outputs

    def _note(self, record: Record, outputs: dict[str, list[int]]) -> None:
        assert record.key is not None
        assert record.value is not None
        count = serdes.int64.deserializer(self.counts)(record.value)
        outputs[record.key.decode()].append(count)

    def wait_counted(self, within_s: float = HANG_S) -> None:
        """Waits until each word's last count is the truth, or more."""

        def is_counted() -> bool:
            outputs = self.outputs()
            return all(outputs[word][-1:] >= [count] for word, count in self.truth.items())

        def missing() -> str:
            lacking = {
                word: (self._outputs[word][-1:], count)
                for word, count in self.truth.items()
                if not self._outputs[word][-1:] >= [count]
            }
            return f"all words: {len(lacking)} lack some: {list(lacking.items())[:5]}"

        self.wait(is_counted, within_s, missing)

    def assert_exact(self, *, is_each_written: bool) -> None:
        """Checks that each word was counted once, neither more nor less, by all that was written.

        Args:
            is_each_written: each change was written, so that outputs are 1, 2, 3, …
        """
        outputs: dict[str, list[int]] = defaultdict(list)
        for record in self.topics.read(self.counts):
            self._note(record, outputs)
        assert {word: counts[-1] for word, counts in outputs.items()} == self.truth
        for word, counts in outputs.items():
            if is_each_written:
                assert counts == list(range(1, self.truth[word] + 1)), word
            else:
                assert counts == sorted(set(counts)), f"{word} was counted twice: {counts}"

    def assert_calm(self) -> None:
        """Checks that no worker has written a traceback."""
        for worker in self.workers.values():
            assert "Traceback" not in worker.log, worker.log
