"""The public names of `streams`: listed once, loaded when asked for."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg as streams

ROOT = Path(streams.__file__).parent.parent
LIST = ROOT / "tests" / "house" / "streams_public_names.txt"

WANTED = {
    "App",
    "State",
    "StreamsConfig",
    "StreamsBuilder",
    "Topology",
    "Materialized",
    "TimeWindows",
    "UnlimitedWindows",
    "serdes",
    "Serde",
    "Record",
    "Headers",
    "Windowed",
    "Processor",
    "FixedKeyProcessor",
    "FixedKeyRecord",
    "ProcessorContext",
    "PunctuationType",
    "AutoOffsetReset",
    "key_value_store",
    "window_store",
    "log_and_continue",
    "StreamsError",
    "ConfigError",
    "TopologyTestDriver",
    "Producer",
    "read_topic",
}


def for_checkers() -> dict[str, set[str]]:
    """Returns module -> names, of the imports only type checkers see."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(Path(streams.__file__).read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                assert line.module is not None
                found[line.module] = {name.name for name in line.names}
    return found


def modules_after(code: str) -> set[str]:
    """Returns the modules a fresh Python has loaded after running some code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_names_are_those_listed_in_order() -> None:
    assert streams.__all__ == sorted(streams.__all__)
    assert streams.__all__ == LIST.read_text().split()
    assert set(streams.__all__) >= WANTED


def test_checkers_see_the_same_names_as_python() -> None:
    homes = {home: set(names) for home, names in streams._HOMES.items()}

    assert homes == for_checkers()
    assert sorted(name for names in homes.values() for name in names) == streams.__all__


@pytest.mark.parametrize("name", streams.__all__)
def test_every_name_is_found_where_it_lives(name: str) -> None:
    home = importlib.import_module(streams._HOME_OF[name])

    assert getattr(streams, name) is getattr(home, name)
    assert name in dir(streams)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'KafkaStreams'"):
        streams.KafkaStreams  # noqa: B018 - the look-up is the test


def test_importing_streams_loads_nothing() -> None:
    ours = {"thalweg", "streams", "stores", "topology", "rebalance"}
    loaded = modules_after("import thalweg")

    assert {name for name in loaded if name.partition(".")[0] in ours} == {"thalweg"}


def test_a_topology_script_loads_no_library_of_kafka() -> None:
    loaded = modules_after("from thalweg import App, StreamsBuilder, serdes")

    heavy = {"confluent_kafka", "aiokafka", "kio", "typer", "rich", "starlette"}
    assert loaded & {*heavy, "thalweg.streams.testing"} == set()


def test_help_of_the_command_line_loads_no_runtime() -> None:
    loaded = modules_after("import thalweg.streams.cli")

    assert loaded & {
        "msgspec",
        "rocksdict",
        "confluent_kafka",
        "thalweg.streams.app",
        "thalweg.stores.serde",
    } == (set())
