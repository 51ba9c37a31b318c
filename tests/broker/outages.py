"""Workers of both guarantees in every phase of their life, and a broker that goes away under all
of them at once.

One outage is met by one worker of each kind, so that all phases cost no more than one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.broker.broker import Broker
from tests.broker.workers import WordCount, Worker
from tests.waiting import HANG_S, wait_until

SCRIPT = Path(__file__).with_name("outage_word_count.py")
PHASES = ("opening", "restoring", "processing", "committing", "closing")
GUARANTEES = ("at_least_once", "exactly_once_v2")
CLOSED_S = 5.0
"""A worker that is to end while the broker is away takes no longer, on a machine that is not busy;
after ten seconds it would end with another exit code than 0."""
PARTITIONS = 2


class Affected:
    """An application of one worker that meets outages in one phase.

    Args:
        servers: bootstrap servers.
        home: for its state, its gate and its log.
        guarantee: the processing guarantee.
        phase: where it is when the broker goes.
    """

    def __init__(self, servers: str, home: Path, guarantee: str, phase: str) -> None:
        self.name = f"{phase}, {guarantee}"
        self.phase, self.guarantee = phase, guarantee
        self._gate = home / "gate"
        self._gate.mkdir(parents=True)
        settings: dict[str, Any] = {"commit_interval_ms": 1} if phase == "committing" else {}
        self.words = WordCount(
            servers,
            home,
            PARTITIONS,
            script=SCRIPT,
            environment={"PHASE": phase, "GATE": str(self._gate)},
            commit_often=False,
            processing_guarantee=guarantee,
            statestore_cache_max_bytes=0,
            **settings,
        )
        self.closed_s: float | None = None

    @property
    def worker(self) -> Worker:
        """Its only worker."""
        return self.words.workers["one"]

    def begin(self) -> None:
        """Starts it, with something to count."""
        (self._gate / "open").touch()
        self.words.feed(40)
        self.words.start("one")

    def bring_there(self) -> None:
        """Lets it come to its phase, without waiting for it."""
        if self.phase in ("opening", "restoring"):
            assert self.worker.stop() == 0, self.words.logs()
            shutil.rmtree(self.worker.state)
            (self._gate / "open").unlink()
            (self._gate / "reached").unlink(missing_ok=True)
            self.worker.start()
        else:
            (self._gate / "reached").unlink(missing_ok=True)
            self.words.feed(1_000 if self.phase != "committing" else 4_000)
            if self.phase == "committing":
                (self._gate / "reached").touch()

    def is_there(self) -> bool:
        """Whether it has come to its phase."""
        return (self._gate / "reached").exists()

    def broker_went(self) -> None:
        """Lets it go on without the broker; one that closes is told to."""
        (self._gate / "open").touch()
        if self.phase == "closing":
            began = time.monotonic()
            code = self.worker.stop()
            self.closed_s = time.monotonic() - began
            assert code == 0, f"{self.name}: it ended with {code}\n{self.words.logs()}"
            self.worker.start()

    def check_alive(self) -> None:
        """Checks that it has not ended by itself."""
        assert not self.worker.has_failed, f"{self.name}: the worker ended\n{self.words.logs()}"

    def check_recovers(self) -> None:
        """Checks that it goes on with everything, and that what it wrote is right."""
        self.words.feed(40)
        self.words.wait_counted(HANG_S)
        if self.guarantee == "exactly_once_v2":
            self.words.assert_exact(is_each_written=True)
        self.words.assert_calm()


@dataclass(frozen=True)
class Outage:
    """A broker that is away.

    Attributes:
        how: `stop` for SIGTERM, `kill` for SIGKILL.
        seconds: from its end until it is started again.
    """

    how: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.how}-{self.seconds:g}s"


@contextmanager
def affected(broker: Broker, home: Path) -> Iterator[list[Affected]]:
    """Starts an application for each guarantee and phase, and waits until all have counted."""
    with ExitStack() as stack:
        found = []
        for guarantee in GUARANTEES:
            for phase in PHASES:
                one = Affected(broker.bootstrap_servers, home / guarantee / phase, guarantee, phase)
                stack.enter_context(one.words)
                one.begin()
                found.append(one)
        for one in found:
            one.words.wait_counted(HANG_S)
        yield found


def meet(broker: Broker, outage: Outage, all_of_them: list[Affected]) -> None:
    """Takes the broker away from all of them, brings it back, and checks what became of them."""
    for one in all_of_them:
        one.bring_there()
    for one in all_of_them:
        wait_until(_alive(one, one.is_there), HANG_S, f"{one.name}: to come there")
    getattr(broker, outage.how)()
    end = time.monotonic() + outage.seconds
    for one in all_of_them:
        one.broker_went()
    while time.monotonic() < end:
        for one in all_of_them:
            one.check_alive()
        time.sleep(0.1)
    broker.start()
    for one in all_of_them:
        one.check_recovers()
    for one in all_of_them:
        one.check_alive()


def _alive(one: Affected, condition: Callable[[], bool]) -> Callable[[], bool]:
    def check() -> bool:
        one.check_alive()
        return condition()

    return check
