"""Sensors: readings out of line, and sensors that fall silent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples import anomaly
from examples.anomaly import Alert, builder
from tests.examples.conftest import Told
from thalweg import TopologyTestDriver, serdes
from thalweg.streams.testing import TestInputTopic, TestOutputTopic

Topics = tuple[TestInputTopic[str, str], TestOutputTopic[str, Alert]]


@pytest.fixture
def topics() -> Iterator[Topics]:
    """Returns the topics of readings and of alerts."""
    with TopologyTestDriver(builder) as driver:
        yield (
            driver.create_input_topic("readings", serdes.string, serdes.string),
            driver.create_output_topic("anomalies", serdes.string, serdes.json(Alert)),
        )


def learn(readings: TestInputTopic[str, str], sensor: str = "s", start_ms: int = 0) -> None:
    """Pipes twelve readings around 10, one each second."""
    for number in range(12):
        readings.pipe_input(sensor, str(10 + number % 2), start_ms + number * 1_000)


def test_a_reading_far_from_the_rest_is_an_outlier(topics: Topics) -> None:
    readings, alerts = topics
    learn(readings)
    readings.pipe_input("s", "11.5", 12_000)
    assert alerts.is_empty
    readings.pipe_input("s", "50", 13_000)
    ((key, alert),) = alerts.read_key_values_to_list()
    assert (key, alert.sensor, alert.kind, alert.value) == ("s", "s", "outlier", 50.0)
    assert alert.expected == pytest.approx(10.5, abs=0.5)


def test_it_learns_before_it_judges_and_each_sensor_by_itself(topics: Topics) -> None:
    readings, alerts = topics
    readings.pipe_input("new", "10", 0)
    readings.pipe_input("new", "1000", 1)
    learn(readings, "s", 10)
    readings.pipe_input("other", "50", 12_100)
    assert alerts.is_empty


def test_a_sensor_that_falls_silent_is_reported_once(topics: Topics) -> None:
    readings, alerts = topics
    learn(readings, "silent")
    for second in range(12, 200):
        readings.pipe_input("talking", "1", second * 1_000)
    ((key, alert),) = alerts.read_key_values_to_list()
    assert (key, alert.kind, alert.value) == ("silent", "silent", None)
    readings.pipe_input("silent", "10", 200_000)
    for second in range(201, 300):
        readings.pipe_input("talking", "1", second * 1_000)
    (again,) = alerts.read_values_to_list()
    assert (again.sensor, again.kind) == ("silent", "silent")


def test_it_runs_by_the_commands_it_tells(told: Told) -> None:
    readings = "".join(f"s:{10 + number % 2}\n" for number in range(12)) + "s:50\n"
    *_, consumed = told(anomaly, {"readings.txt": readings})
    (line,) = consumed.splitlines()
    assert '"kind":"outlier"' in line
    assert '"value":50.0' in line
