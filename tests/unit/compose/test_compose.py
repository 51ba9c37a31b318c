"""compose/ as data: what it names exists, what it pins is pinned, what it draws is measured."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from thalweg import (
    App,
    State,
    StreamsConfig,
    TimeWindows,
    serdes,
)
from thalweg.streams.cli import cli
from thalweg.streams.observe.prometheus import Samples, samples_of
from thalweg.streams.queries.metadata import endpoint_of
from thalweg.streams.transport.memory import MemoryTransport, memory_log

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "compose"
WORKERS = ("worker-1", "worker-2")
METRIC = re.compile(r"\b(?:kafka_streams|process)_\w+")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Returns the services by name."""
    parsed = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())
    found: dict[str, Any] = parsed["services"]
    return found


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    """Returns the dashboard."""
    found: dict[str, Any] = json.loads(
        (COMPOSE / "grafana" / "dashboards" / "thalweg.json").read_text()
    )
    return found


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samples]:
    """Returns what a running application tells, one with every kind of store."""
    path = ROOT / "examples" / "word_count.py"
    spec = importlib.util.spec_from_file_location("composed_word_count", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    builder = script.builder
    words = builder.stream("words", key_serde=serdes.string, value_serde=serdes.string)
    words.group_by_key().windowed_by(TimeWindows.of_size(timedelta(minutes=1))).count(name="recent")
    log = memory_log()
    app = App(
        builder,
        application_id="composed",
        state_dir=tmp_path_factory.mktemp("state"),
        commit_interval_ms=20,
        poll_ms=5,
        transport=lambda: MemoryTransport(log, "composed"),
    )
    with app.producer() as producer:
        for topic in ("lines", "words"):
            producer.send(topic, "a b", key="k", key_serde=serdes.string, value_serde=serdes.string)
    with app:
        while (progress := app.progress()) is None or not progress.is_idle:
            assert not app.wait_for(State.ERROR, timeout=timedelta(milliseconds=5)), app.error
        yield samples_of(app.metrics_text())


def expressions(dashboard: Mapping[str, Any]) -> list[str]:
    """Returns every query of a dashboard."""
    return [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]


# -- what is pinned ------------------------------------------------------------------------


def test_every_image_is_pinned_by_a_version_and_names_no_host(services: dict[str, Any]) -> None:
    images = [one["image"] for one in services.values() if "build" not in one]
    images += re.findall(r"^FROM (\S+)", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE)

    for image in images:
        name, _, tag = image.partition(":")
        assert re.match(r"v?\d+\.\d+\.\d+", tag), image
        first = name.split("/")[0] if "/" in name else ""
        assert "." not in first, image
    kafka = {image for image in images if image.startswith("apache/kafka")}
    assert kafka == {"apache/kafka:4.2.1"}


def test_what_the_image_is_built_from_exists_and_is_sent(services: dict[str, Any]) -> None:
    build = services["worker-1"]["build"]
    context = (COMPOSE / build["context"]).resolve()
    assert context == ROOT
    dockerfile = context / build["dockerfile"]
    ignored = (dockerfile.parent / f"{dockerfile.name}.dockerignore").read_text().splitlines()

    for line in re.findall(r"^COPY (.+)$", dockerfile.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (context / source).exists(), source
            assert f"!{source}" in ignored, source


# -- what is named -------------------------------------------------------------------------


def test_ports_are_open_to_this_machine_only_and_each_once(services: dict[str, Any]) -> None:
    ports = [port for one in services.values() for port in one.get("ports", ())]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


@pytest.mark.parametrize("worker", WORKERS)
def test_the_settings_of_a_worker_are_settings(services: dict[str, Any], worker: str) -> None:
    service = services[worker]
    environment = service["environment"]
    assert all(name.startswith("THALWEG_") for name in environment)

    config = StreamsConfig.load(environment=environment, application_id="word-count")

    server = endpoint_of(config.application_server)
    assert server.host == worker == service["hostname"]
    assert service["ports"][0].endswith(f":{server.port}")
    assert f":{config.state_dir}" in service["volumes"][0]
    assert config.bootstrap_servers == "kafka:9092"


def test_a_worker_runs_a_command_that_exists(services: dict[str, Any]) -> None:
    command, script, *options = services["worker-1"]["command"]

    parser = typer.main.get_command(cli).commands[command]  # type: ignore[attr-defined]
    parsed = parser.make_context(command, [script, *options]).params
    assert parsed["script"] == script
    assert (ROOT / script).is_file()


def test_the_source_topics_of_the_script_are_created(services: dict[str, Any]) -> None:
    (shell,) = services["topics"]["command"]
    created = re.search(r"for topic in ([\w -]+);", shell)
    assert created is not None
    script = (ROOT / services["worker-1"]["command"][1]).read_text()

    read = re.findall(r'\.stream\(\s*"([^"]+)"', script)
    assert read
    assert set(read) <= set(created[1].split())
    assert f"--topic {read[0]}" in services["feeder"]["command"][0]


def test_what_a_service_waits_for_and_mounts_exists(services: dict[str, Any]) -> None:
    parsed = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())
    for name, service in services.items():
        for other in service.get("depends_on", ()):
            assert other in services, (name, other)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (
                (COMPOSE / source).exists()
                if source.startswith(".")
                else (source in parsed["volumes"])
            )


def test_the_stop_of_a_worker_has_the_time_it_needs(services: dict[str, Any]) -> None:
    from thalweg.streams.app import CLOSE_TIMEOUT

    seconds = int(services["worker-1"]["stop_grace_period"].removesuffix("s"))
    assert seconds > CLOSE_TIMEOUT.total_seconds()


def test_prometheus_asks_every_worker(services: dict[str, Any]) -> None:
    settings = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text())
    (job,) = settings["scrape_configs"]
    (targets,) = job["static_configs"]

    servers = [services[worker]["environment"]["THALWEG_APPLICATION_SERVER"] for worker in WORKERS]
    assert targets["targets"] == servers
    assert job["metrics_path"] == "/metrics"


def test_grafana_finds_its_data_and_its_dashboard(
    services: dict[str, Any], dashboard: dict[str, Any]
) -> None:
    provisioning = COMPOSE / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "thalweg.yml").read_text())[
        "providers"
    ]

    assert source["url"] == "http://prometheus:9090"
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert used == {source["uid"]}
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/thalweg.json"


# -- what is drawn -------------------------------------------------------------------------


def test_what_the_dashboard_draws_is_measured(dashboard: dict[str, Any], samples: Samples) -> None:
    named = {name for expr in expressions(dashboard) for name in METRIC.findall(expr)}

    assert len(named) > 25
    assert sorted(named - samples.keys()) == []


def test_what_the_dashboard_groups_by_are_labels(
    dashboard: dict[str, Any], samples: Samples
) -> None:
    of_prometheus = {"instance", "job"}
    for expr in expressions(dashboard):
        labels = {
            label.strip()
            for group in re.findall(r"by \(([^)]+)\)", expr)
            for label in group.split(",")
        }
        for name in METRIC.findall(expr):
            known = {label for tags, _ in samples[name] for label in tags}
            assert labels - of_prometheus <= known, (expr, labels)
            if name.startswith("kafka_streams"):
                assert f'{name}{{client=~"$client"}}' in expr
                assert "client" in known


def test_only_counters_are_made_rates_of(dashboard: dict[str, Any]) -> None:
    for expr in expressions(dashboard):
        rated = set(re.findall(r"(?:rate|increase)\((\w+)", expr))
        counters = {name for name in METRIC.findall(expr) if name.endswith("_total")}
        assert rated == counters, expr


def test_panels_do_not_overlap_and_say_what_they_show(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
