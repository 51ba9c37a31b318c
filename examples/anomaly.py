"""Watches sensors for unusual readings: a processor, its store, a punctuator.

For each sensor the store keeps the mean and the spread of its readings, exponentially smoothed. A
reading that is further from the mean than three times the spread is an anomaly. A sensor without
readings for a minute of event time is reported once.

    thalweg produce readings --key-separator : --value-serde string < readings.txt
    thalweg run examples/anomaly.py --until-idle
    thalweg consume anomalies
"""

from __future__ import annotations

import math
from datetime import timedelta

import msgspec

from thalweg import (
    App,
    KeyValueStore,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    StreamsBuilder,
    key_value_store,
    serdes,
)

SMOOTHING = 0.1
LEARNING_READINGS = 10
SPREADS = 3.0
SILENCE_MS = 60_000


class Baseline(msgspec.Struct, frozen=True):
    """What is normal for one sensor."""

    mean: float
    variance: float
    readings: int
    last_ms: int
    is_silent: bool = False


class Alert(msgspec.Struct, frozen=True):
    """Something to look at."""

    sensor: str
    kind: str
    value: float | None
    expected: float


class Watch(Processor[str, float, str, Alert]):
    """Compares each reading with the sensor's baseline, then lets it learn from it."""

    def init(self, context: ProcessorContext[str, Alert]) -> None:
        """Finds the store and asks to be called for every ten seconds of event time."""
        super().init(context)
        self.baselines: KeyValueStore[str, Baseline] = context.get_state_store("baselines")
        context.schedule(timedelta(seconds=10), PunctuationType.STREAM_TIME, self.find_silent)

    def process(self, record: Record[str, float]) -> None:
        """Handles one reading."""
        sensor, value = record.key, record.value
        known = self.baselines.get(sensor)
        if known is None:
            self.baselines.put(sensor, Baseline(value, 0.0, 1, record.timestamp))
            return
        spread = math.sqrt(known.variance)
        off = value - known.mean
        if known.readings >= LEARNING_READINGS and abs(off) > SPREADS * max(spread, 1e-9):
            self.context.forward(record.with_value(Alert(sensor, "outlier", value, known.mean)))
        self.baselines.put(
            sensor,
            Baseline(
                known.mean + SMOOTHING * off,
                (1 - SMOOTHING) * (known.variance + SMOOTHING * off * off),
                known.readings + 1,
                record.timestamp,
            ),
        )

    def find_silent(self, now_ms: int) -> None:
        """Reports the sensors that have not been heard of for a while."""
        with self.baselines.all() as rows:
            silent = [
                (sensor, known)
                for sensor, known in rows
                if not known.is_silent and now_ms - known.last_ms >= SILENCE_MS
            ]
        for sensor, known in silent:
            self.baselines.put(sensor, msgspec.structs.replace(known, is_silent=True))
            self.context.forward(Record(sensor, Alert(sensor, "silent", None, known.mean), now_ms))


builder = StreamsBuilder()
builder.add_state_store(key_value_store("baselines", serdes.string, serdes.json(Baseline)))
(
    builder.stream("readings", key_serde=serdes.string, value_serde=serdes.string)
    .map_values(float)
    .process(Watch, "baselines", name="watch")
    .to("anomalies", key_serde=serdes.string, value_serde=serdes.json(Alert))
)
app = App(builder, application_id="anomaly")

if __name__ == "__main__":
    app.run()
