"""The time a processor's stores write with is that of the record the processor was given."""

from __future__ import annotations

from thalweg.stores.builders import key_value_store
from thalweg.stores.record import Record
from thalweg.stores.serde import serdes
from thalweg.streams.testing import TopologyTestDriver
from thalweg.topology.dsl import Materialized, StreamsBuilder
from thalweg.topology.processor import Processor


class Remember(Processor[str, int, str, int]):
    def process(self, record: Record[str, int]) -> None:
        self.context.get_state_store("seen").put(record.key, record.value)


def test_a_store_behind_an_aggregation_logs_with_the_time_of_its_result() -> None:
    builder = StreamsBuilder()
    builder.add_state_store(key_value_store("seen", serdes.string, serdes.int64))
    grouped = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    counts = grouped.group_by_key().count(materialized=Materialized("counts", caching=False))
    counts.to_stream().process(Remember, "seen")

    with TopologyTestDriver(builder, application_id="app") as driver:
        records = driver.create_input_topic("in", serdes.string, serdes.string)
        records.pipe_input("a", "x", 50)
        records.pipe_input("a", "x", 20)

        logged = [row.timestamp for row in driver.produced("app-seen-changelog")]

    assert logged == [50, 50]
