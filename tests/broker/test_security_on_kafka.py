"""Listeners with SCRAM and with TLS, for records and for the group alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.broker.broker import Broker
from tests.broker.records import Topics, unique
from tests.waiting import HANG_S, wait_until
from thalweg import (
    App,
    BrokerError,
    State,
    StreamsBuilder,
    StreamsError,
    serdes,
)

LINES = ["a rose is", "a rose is", "a rose"]
TRUTH = Counter(" ".join(LINES).split())

MakeApp = Callable[..., App]


@pytest.fixture
def topics(broker: Broker) -> Topics:
    return Topics(broker.bootstrap_servers)


def word_count(topics: Topics, directory: Path, configs: dict[str, Any], **settings: Any) -> App:
    """Returns an application that reaches the broker as `configs` say."""
    lines, counts = (topics.create(unique(name), 2) for name in ("lines", "counts"))
    topics.produce(lines, [(None, line.encode()) for line in LINES])
    builder = StreamsBuilder()
    (
        builder.stream(lines, value_serde=serdes.string)
        .flat_map_values(str.split)
        .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(name="counts")
        .to_stream()
        .to(counts, key_serde=serdes.string, value_serde=serdes.int64)
    )
    servers = configs.pop("bootstrap.servers")
    return App(
        builder,
        application_id=unique("secured"),
        bootstrap_servers=servers,
        state_dir=directory,
        commit_interval_ms=100,
        consumer_configs=configs,
        **settings,
    )


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
@pytest.mark.parametrize("listener", ["sasl_configs", "tls_configs"])
def test_an_application_works_behind_any_listener(
    broker: Broker, topics: Topics, listener: str, guarantee: str, tmp_path: Path
) -> None:
    configs = getattr(broker, listener)
    app = word_count(topics, tmp_path, configs, processing_guarantee=guarantee)

    with app:
        assert app.wait_for(State.RUNNING, timeout=timedelta(seconds=HANG_S)), app.error

        def counted() -> dict[str, int]:
            with app.store("counts").all() as rows:
                return dict(rows)

        wait_until(lambda: counted() == TRUTH, HANG_S, lambda: f"counts, but {counted()}")

    assert app.state is State.NOT_RUNNING, app.error


def without(*names: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda configs: {key: value for key, value in configs.items() if key not in names}


def having(name: str, value: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda configs: {**configs, name: value}


@pytest.mark.parametrize(
    ("listener", "change", "told"),
    [
        ("sasl_configs", having("sasl.password", "open sesame"), "sasl.password"),
        ("sasl_configs", having("sasl.username", "nobody"), "sasl.username"),
        ("sasl_configs", having("sasl.mechanism", "PLAIN"), "sasl.mechanism"),
        ("sasl_configs", having("security.protocol", "SASL_SSL"), "security.protocol"),
        ("tls_configs", without("ssl.ca.location"), "ssl.ca.location"),
        ("tls_configs", without("ssl.certificate.location", "ssl.key.location"), "certificate"),
    ],
)
def test_whoever_is_not_let_in_is_told_what_to_check(
    broker: Broker,
    topics: Topics,
    listener: str,
    change: Callable[[dict[str, str]], dict[str, str]],
    told: str,
    tmp_path: Path,
) -> None:
    configs = change(getattr(broker, listener))
    soon = {"socket.connection.setup.timeout.ms": 3000}
    app = word_count(topics, tmp_path, {**configs, **soon}, admin_configs=soon)

    try:
        with pytest.raises(StreamsError, match=told) as caught:
            run_until_failure(app)
    finally:
        app.close()

    assert isinstance(caught.value, BrokerError)
    assert "open sesame" not in str(caught.value)


def run_until_failure(app: App) -> None:
    app.start()
    app.wait_for(State.ERROR, timeout=timedelta(seconds=HANG_S))
    assert app.error is not None, f"it is {app.state}, and nobody was told"
    raise app.error
