"""What operators ask the scope of their task for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg import StreamsBuilder
from thalweg.streams.testing import TopologyTestDriver
from thalweg.topology.operators.operator import NodeScope, Process
from thalweg.topology.operators.stateless import Filter
from thalweg.topology.processor import PunctuationType


class Asking(Filter):
    """A filter that asks its task for something when it is compiled."""

    def __init__(self, ask: Callable[[NodeScope], Any]) -> None:
        super().__init__(lambda _key, _value: True)
        self.ask = ask
        self.answers: list[Any] = []

    def compile(self, scope: NodeScope) -> Process:
        self.answers.append(self.ask(scope))
        return super().compile(scope)


def asking(*operators: Asking) -> TopologyTestDriver:
    """Returns a driver of a topology with these operators in a row."""
    builder = StreamsBuilder()
    stream = builder.stream("in")
    for _ in operators:
        stream = stream.filter(lambda _key, _value: True)
    stream.to("out")
    topology = builder.build()
    filters = [one for one in topology.nodes.values() if hasattr(one, "operator")]
    for place, operator in zip(filters, operators, strict=True):
        object.__setattr__(place, "operator", operator)
    return TopologyTestDriver(topology)


def test_stream_time_is_kept_record_by_record_for_who_asks() -> None:
    operator = Asking(lambda scope: scope.task.stream_time())
    with asking(operator) as driver:
        (read,) = operator.answers
        assert read() == -1
        for timestamp, expected in ((5, 5), (3, 5), (9, 9)):
            driver.pipe_raw("in", b"k", b"v", timestamp)
            assert read() == expected
        assert driver._task is not None
        assert driver._task.scope.keeps_stream_time


def test_who_asks_for_nothing_pays_for_nothing() -> None:
    with asking(Asking(lambda _scope: None)) as driver:
        assert driver._task is not None
        assert not driver._task.scope.keeps_stream_time


@pytest.mark.parametrize("type", list(PunctuationType))
def test_an_operator_has_timers(type: PunctuationType) -> None:
    rung: list[int] = []
    operator = Asking(lambda scope: scope.task.schedule(scope.name, 10, type, rung.append))
    with asking(operator) as driver:
        if type is PunctuationType.STREAM_TIME:
            for timestamp in (5, 9, 20):
                driver.pipe_raw("in", b"k", b"v", timestamp)
            assert rung == [5, 20]
        else:
            driver.advance_wall_clock_time(25)
            assert rung == [25]
        operator.answers[0].cancel()
        driver.pipe_raw("in", b"k", b"v", 100)
        driver.advance_wall_clock_time(100)
        assert len(rung) <= 2


class Late(Asking):
    """Asks when the first record comes."""

    def compile(self, scope: NodeScope) -> Process:
        process = Filter.compile(self, scope)

        def asks(key: Any, value: Any, timestamp: int) -> None:
            if not self.answers:
                self.answers.append(self.ask(scope))
            process(key, value, timestamp)

        return asks


def test_a_timer_of_stream_time_that_is_asked_for_late_rings_too() -> None:
    rung: list[int] = []
    ask = lambda scope: scope.task.schedule(
        scope.name, 10, PunctuationType.STREAM_TIME, rung.append, 20
    )
    with asking(Late(ask)) as driver:
        for timestamp in (5, 9, 20, 25, 31):
            driver.pipe_raw("in", b"k", b"v", timestamp)
    assert rung == [20, 31]


def test_operators_share_what_the_first_of_them_makes() -> None:
    first, second = (Asking(lambda scope: scope.task.shared("join", list)) for _ in range(2))
    other = Asking(lambda scope: scope.task.shared("other", list))
    with asking(first, second, other):
        assert first.answers[0] is second.answers[0]
        assert first.answers[0] is not other.answers[0]


def test_the_wall_clock_is_the_tasks() -> None:
    operator = Asking(lambda scope: scope.task.now_ms)
    with asking(operator) as driver:
        driver.advance_wall_clock_time(7)
        assert operator.answers[0]() == 7
