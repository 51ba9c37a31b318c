"""Settings: where they come from, what they take, what is refused and in which words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from thalweg import (
    ConfigError,
    Response,
    StreamsConfig,
    serdes,
)
from thalweg.streams.config import settings_of_text, settings_of_toml
from thalweg.streams.error_handlers import log_and_continue, log_and_fail, retry_or_fail
from thalweg.topology.processor import wallclock_timestamp


def configured(**settings: Any) -> StreamsConfig:
    return StreamsConfig(**{"application_id": "app", **settings})


def my_handler(_context: Any, _record: Any, _error: Exception) -> Response:
    return Response.resume()


class Named:
    """What `module:attribute` may lead to, through attributes of attributes."""

    handler = staticmethod(my_handler)
    number = 7


HERE = __name__


# -- defaults ------------------------------------------------------------------------------


def test_defaults_are_the_jvms_where_there_is_no_reason_against() -> None:
    config = StreamsConfig(application_id="app")
    assert config.bootstrap_servers is None
    assert config.processing_guarantee == "at_least_once"
    assert (config.poll_ms, config.max_task_idle_ms) == (100, 0)
    assert config.buffered_records_per_partition == 1_000
    assert config.task_timeout_ms == 300_000
    assert config.statestore_cache_max_bytes == 10 * 1024 * 1024
    assert config.repartition_purge_interval_ms == 30_000
    assert config.state_cleanup_delay_ms == 600_000
    assert config.window_store_changelog_additional_retention_ms == 86_400_000
    assert config.replication_factor == -1
    assert config.topology_optimization == "none"
    assert config.deserialization_handler is config.processing_handler is log_and_fail
    assert config.production_handler is retry_or_fail
    assert config.default_key_serde is config.default_value_serde is serdes.bytes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1_000),
        ({"processing_guarantee": "exactly_once_v2"}, 1_000),
        ({"bootstrap_servers": "b:9092"}, 30_000),
        ({"bootstrap_servers": "b:9092", "processing_guarantee": "exactly_once_v2"}, 100),
        ({"bootstrap_servers": "b:9092", "commit_interval_ms": 5}, 5),
    ],
)
def test_the_commit_interval_follows_log_and_guarantee(
    settings: dict[str, Any], expected: int
) -> None:
    assert configured(**settings).commit_interval_ms == expected


def test_a_changed_log_changes_the_commit_interval_unless_it_was_given() -> None:
    assert configured().replace(bootstrap_servers="b:9092").commit_interval_ms == 30_000
    given = configured(commit_interval_ms=7)
    assert given.replace(bootstrap_servers="b:9092").commit_interval_ms == 7
    assert given.replace(poll_ms=1).commit_interval_ms == 7


def test_an_application_id_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"application_id is not set.*THALWEG_APPLICATION_ID"):
        StreamsConfig()


# -- what a configuration is ---------------------------------------------------------------


def test_it_cannot_be_changed_only_replaced() -> None:
    config = configured(topic_configs={"a": "1"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.poll_ms = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.topic_configs["a"] = "2"  # type: ignore[index]
    changed = config.replace(poll_ms=5, commit_interval=timedelta(seconds=2))
    assert (changed.poll_ms, changed.commit_interval_ms) == (5, 2_000)
    assert (config.poll_ms, config.commit_interval_ms) == (100, 1_000)
    assert changed.topic_configs == {"a": "1"}
    with pytest.raises(ConfigError, match="poll_ms cannot be -1"):
        config.replace(poll_ms=-1)


def test_as_dict_gives_every_setting() -> None:
    config = configured(producer_configs={"sasl.password": "x"})
    settings = config.as_dict()
    assert StreamsConfig(**settings) == config
    assert settings["producer_configs"] == {"sasl.password": "x"}
    assert {field.name for field in dataclasses.fields(config)} == set(settings)


def test_mappings_are_copied() -> None:
    given = {"a": "1"}
    config = configured(topic_configs=given)
    given["a"] = "2"
    assert config.topic_configs == {"a": "1"}


def test_topology_config_has_what_shapes_internal_topics() -> None:
    config = configured(
        topic_configs={"retention.ms": 5},
        replication_factor=3,
        window_store_changelog_additional_retention=timedelta(hours=1),
    )
    shape = config.topology_config
    assert (shape.application_id, shape.replication_factor) == ("app", 3)
    assert shape.topic_configs == {"retention.ms": "5"}
    assert shape.window_changelog_additional_retention_ms == 3_600_000


# -- values --------------------------------------------------------------------------------

DURATIONS = (
    "commit_interval",
    "poll",
    "max_task_idle",
    "task_timeout",
    "repartition_purge_interval",
    "state_cleanup_delay",
    "window_store_changelog_additional_retention",
)


@pytest.mark.parametrize("name", DURATIONS)
def test_durations_are_milliseconds_or_timedeltas(name: str) -> None:
    assert getattr(configured(**{f"{name}_ms": 1_500}), f"{name}_ms") == 1_500
    assert getattr(configured(**{name: timedelta(seconds=1.5)}), f"{name}_ms") == 1_500
    with pytest.raises(ConfigError, match=f"{name} takes a timedelta; .* as {name}_ms"):
        configured(**{name: 1_500})
    with pytest.raises(ConfigError, match=f"{name}_ms is given twice"):
        configured(**{f"{name}_ms": 1, name: timedelta(seconds=1)})


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        ({"poll_ms": -1}, r"a whole number >= 0 \(milliseconds\)"),
        ({"poll_ms": 1.5}, "a whole number"),
        ({"poll_ms": True}, "a whole number"),
        ({"poll_ms": "soon"}, "a whole number"),
        ({"poll_ms": None}, "a whole number"),
        ({"poll": timedelta(milliseconds=-1)}, "a whole number"),
        ({"commit_interval": timedelta(microseconds=1)}, "at least a millisecond"),
        ({"max_task_idle_ms": -2}, r">= -1"),
        ({"max_poll_records": 0}, r">= 1"),
        ({"default_partitions": 0}, "from 1 to 100000"),
        ({"default_partitions": 100_001}, "from 1 to 100000"),
        ({"num_workers": 0}, "from 1 to 1024"),
        ({"replication_factor": -2}, "from -1 to 32767"),
        ({"statestore_cache_max_bytes": -1}, r"\(bytes\)"),
        ({"rocksdb_write_buffer_bytes": 1_000}, r">= 65536 \(bytes\)"),
        ({"processing_guarantee": "exactly_once"}, "one of at_least_once, exactly_once_v2"),
        ({"processing_guarantee": ["exactly_once_v2"]}, "one of"),
        ({"default_key_serde": "int"}, "a Serde, one of bytes, string"),
        ({"default_key_serde": str}, "a Serde"),
        ({"default_key_serde": "nowhere:serde"}, "module:attribute of something that exists"),
        ({"processing_handler": "ignore"}, "log_and_fail, log_and_continue, retry_or_fail"),
        ({"processing_handler": Named}, "a callable"),
        ({"processing_handler": f"{HERE}:Named.absent"}, "something that exists"),
        ({"processing_handler": f"{HERE}:Named.number"}, "a callable"),
        ({"default_timestamp_extractor": "noon"}, "wallclock"),
        ({"application_id": ""}, "1 to 249 of the characters"),
        ({"application_id": ".."}, "1 to 249 of the characters"),
        ({"application_id": "a/b"}, "1 to 249 of the characters"),
        ({"application_id": "a" * 250}, "1 to 249 of the characters"),
        ({"application_id": None}, "1 to 249 of the characters"),
        ({"dead_letter_queue_topic": "a b"}, "1 to 249 of the characters"),
        ({"bootstrap_servers": "broker"}, '"host:port"'),
        ({"bootstrap_servers": ""}, '"host:port"'),
        ({"bootstrap_servers": "a:1,,b:2"}, '"host:port"'),
        ({"bootstrap_servers": 9092}, '"host:port"'),
        ({"application_server": "host"}, '"host:port"'),
        ({"state_dir": ""}, "a path"),
        ({"state_dir": 5}, "a path"),
        ({"upgrade_from": "three"}, 'a version such as "3.4"'),
        ({"upgrade_from": 3.4}, 'a version such as "3.4"'),
        ({"ensure_explicit_internal_resource_naming": "yes"}, "true or false"),
        ({"topic_configs": {"a": None}}, "a mapping of names to texts or numbers"),
        ({"topic_configs": ["a"]}, "a mapping"),
        ({"consumer_configs": {1: "a"}}, "a mapping of names to values"),
        ({"topology_optimization": True}, "a text"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_value_that_cannot_be_is_refused_with_what_can(
    settings: dict[str, Any], form: str
) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{re.escape(name)}.* cannot be .*; it takes .*{form}"):
        configured(**settings)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"poll_ms": 0}, 0),
        ({"poll_ms": "25"}, 25),
        ({"max_task_idle_ms": -1}, -1),
        ({"bootstrap_servers": "a:1, b:2"}, "a:1,b:2"),
        ({"bootstrap_servers": ["a:1", "b:2"]}, "a:1,b:2"),
        ({"bootstrap_servers": "[::1]:9092"}, "[::1]:9092"),
        ({"application_server": "localhost:0"}, "localhost:0"),
        ({"application_server": ""}, ""),
        ({"state_dir": "/x/y"}, Path("/x/y")),
        ({"state_dir": "~/x"}, Path.home() / "x"),
        ({"default_key_serde": "int64"}, serdes.int64),
        ({"default_key_serde": "streams:serdes.string"}, serdes.string),
        ({"processing_handler": "log_and_continue"}, log_and_continue),
        ({"processing_handler": f"{HERE}:my_handler"}, my_handler),
        ({"processing_handler": f"{HERE}:Named.handler"}, my_handler),
        ({"default_timestamp_extractor": "wallclock"}, wallclock_timestamp),
        ({"default_timestamp_extractor": None}, None),
        ({"ensure_explicit_internal_resource_naming": "TRUE"}, True),
        ({"dead_letter_queue_topic": None}, None),
        ({"upgrade_from": "3.4"}, "3.4"),
        (
            {"topic_configs": {"a": 1, "b": True, "c": 0.5, "d": "x"}},
            {"a": "1", "b": "true", "c": "0.5", "d": "x"},
        ),
        ({"consumer_configs": {"fetch.min.bytes": 5}}, {"fetch.min.bytes": 5}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_value_is_kept_in_one_form(settings: dict[str, Any], kept: Any) -> None:
    (name,) = settings
    assert getattr(configured(**settings), name) == kept


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("comit_interval_ms", "commit_interval_ms"),
        ("commit.interval.ms", "commit_interval_ms"),
        ("Poll_MS", "poll_ms"),
        ("cache_max_bytes", "statestore_cache_max_bytes"),
        ("bootstrap_server", "bootstrap_servers"),
        ("exactly_once", "processing_guarantee"),
        ("num.stream.threads", "num_workers"),
        ("group.id", "application_id"),
        ("app_id", "application_id"),
        ("block_cache_bytes", "rocksdb_block_cache_bytes"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(name: str, meant: str) -> None:
    with pytest.raises(
        ConfigError, match=f"argument '{name}' is not a setting; did you mean '.*{meant}"
    ):
        configured(**{name: 5})


@pytest.mark.parametrize("name", ["nonsense", "x", "colour", "handler_of_everything"])
def test_nothing_far_fetched_is_suggested(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is not a setting, and none is called like it"):
        configured(**{name: 5})
    with pytest.raises(
        ConfigError, match=f"THALWEG_{name.upper()} is not a setting, and none.*unset"
    ):
        StreamsConfig.load(environment={f"THALWEG_{name.upper()}": "5"}, application_id="app")


# -- what defeats each other ---------------------------------------------------------------


def test_the_embedded_log_has_one_process() -> None:
    with pytest.raises(ConfigError, match=r"num_workers is 2.*bootstrap_servers"):
        configured(num_workers=2)
    assert configured(num_workers=2, bootstrap_servers="b:9092").num_workers == 2


def test_a_transaction_lasts_longer_than_the_commit_interval() -> None:
    settings = {"bootstrap_servers": "b:9092", "processing_guarantee": "exactly_once_v2"}
    with pytest.raises(ConfigError, match=r"commit_interval_ms is 20000.*transaction\.timeout\.ms"):
        configured(commit_interval_ms=20_000, **settings)
    longer = {"transaction.timeout.ms": 30_000}
    assert configured(commit_interval_ms=20_000, producer_configs=longer, **settings)
    shorter = {"transaction.timeout.ms": "50"}
    with pytest.raises(ConfigError, match=r"transaction\.timeout\.ms of 50"):
        configured(producer_configs=shorter, **settings)
    assert configured(commit_interval_ms=20_000, processing_guarantee="exactly_once_v2")


# -- where values come from ----------------------------------------------------------------


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    """Returns a function that writes a TOML file."""

    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return write


def test_arguments_win_over_the_environment_and_it_over_the_file(
    toml: Callable[[str], Path],
) -> None:
    path = toml(
        'application_id = "file"\npoll_ms = 1\nmax_poll_records = 1\ndefault_partitions = 2'
    )
    environment = {"THALWEG_POLL_MS": "2", "THALWEG_MAX_POLL_RECORDS": "2"}
    config = StreamsConfig.load(toml=path, environment=environment, max_poll_records=3)
    assert (config.default_partitions, config.poll_ms, config.max_poll_records) == (2, 2, 3)
    assert config.application_id == "file"


def test_entries_of_mappings_are_merged(toml: Callable[[str], Path]) -> None:
    path = toml('[topic_configs]\n"a.b" = 1\n"c.d" = 1\n"e.f" = 1')
    config = StreamsConfig.load(
        toml=path,
        environment={"THALWEG_TOPIC_CONFIGS__C_D": "2", "THALWEG_TOPIC_CONFIGS__E_F": "2"},
        application_id="app",
        topic_configs={"e.f": 3},
    )
    assert config.topic_configs == {"a.b": "1", "c.d": "2", "e.f": "3"}


def test_the_environment_may_name_the_file(toml: Callable[[str], Path]) -> None:
    environment = {"THALWEG_CONFIG": str(toml('application_id = "file"\npoll_ms = 1'))}
    assert StreamsConfig.from_env(environment).poll_ms == 1
    assert StreamsConfig.from_env(environment, poll_ms=5).poll_ms == 5
    assert StreamsConfig.load(environment=environment).application_id == "file"
    with pytest.raises(ConfigError, match="application_id is not set"):
        StreamsConfig.from_env({})


def test_a_file_alone_knows_no_environment(
    toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_POLL_MS", "7")
    path = toml('application_id = "file"')
    assert StreamsConfig.from_toml(path).poll_ms == 100
    assert StreamsConfig.from_toml(path, poll_ms=3).poll_ms == 3
    assert StreamsConfig.load(toml=path).poll_ms == 7


def test_the_constructor_reads_nothing_but_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_POLL_MS", "7")
    monkeypatch.setenv("THALWEG_CONFIG", "nowhere.toml")
    assert configured().poll_ms == 100


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"THALWEG_POL_MS": "1"},
            r"variable THALWEG_POL_MS is not a setting; did you mean THALWEG_POLL_MS",
        ),
        ({"THALWEG_POLL_MS": "soon"}, r"THALWEG_POLL_MS cannot be 'soon'; it takes a whole number"),
        (
            {"THALWEG_TOPIC_CONFIGS": "a"},
            r"THALWEG_TOPIC_CONFIGS is a mapping.*THALWEG_TOPIC_CONFIGS__<NAME_OF_ENTRY>",
        ),
        ({"THALWEG_POLL_MS__A": "1"}, r"THALWEG_POLL_MS__A: poll_ms is not a mapping"),
        ({"THALWEG_CONFIG": "nowhere.toml"}, r"cannot read the settings in nowhere\.toml: No such"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(
    environment: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamsConfig.load(environment=environment, application_id="app")


def of_service(name: str, address: str = "10.0.0.7", port: int = 8080) -> dict[str, str]:
    """Returns what Kubernetes tells a container of a Service."""
    host = f"[{address}]" if ":" in address else address
    variables = {
        "SERVICE_HOST": address,
        "SERVICE_PORT": str(port),
        "SERVICE_PORT_HTTP": str(port),
        "SERVICE_PORT_HTTP_ALT": str(port),
        "PORT": f"tcp://{host}:{port}",
    }
    for protocol in ("tcp", "udp", "sctp"):
        one = f"PORT_{port}_{protocol.upper()}"
        variables |= {
            one: f"{protocol}://{host}:{port}",
            f"{one}_PROTO": protocol,
            f"{one}_PORT": str(port),
            f"{one}_ADDR": address,
        }
    return {f"{name}_{variable}": value for variable, value in variables.items()}


@pytest.mark.parametrize("name", ["THALWEG", "THALWEG_UI", "THALWEG_CONFIG", "THALWEG_2"])
@pytest.mark.parametrize("address", ["10.0.0.7", "fd00:10:96::7"])
def test_variables_of_a_service_of_kubernetes_are_passed_over(name: str, address: str) -> None:
    environment = {**of_service(name, address), "THALWEG_POLL_MS": "7"}

    config = StreamsConfig.load(environment=environment, application_id="app")

    assert config.poll_ms == 7


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THALWEG_PORT", "8080"),
        ("THALWEG_PORT", "kafka://x:1"),
        ("THALWEG_SERVICE_HOST", "kafka"),
        ("THALWEG_SERVICE_PORT", "http"),
        ("THALWEG_PORT_80_TCP_PORT", "tcp"),
        ("THALWEG_PORT_X_TCP", "tcp://10.0.0.7:80"),
        ("THALWEG_SERVICE", "10.0.0.7"),
        ("THALWEG_COMMIT_INTERVALL_MS", "5"),
    ],
)
def test_what_no_service_would_set_is_refused_still(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"environment variable {variable} is not a setting"):
        StreamsConfig.load(environment={variable: value}, application_id="app")


def test_a_module_that_fails_when_it_is_loaded_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_serdes.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"a module that can be loaded \(ZeroDivisionError"):
        configured(default_key_serde="broken_serdes:serde")


def test_the_environment_names_serdes_handlers_and_entries_as_texts() -> None:
    config = StreamsConfig.from_env(
        {
            "THALWEG_APPLICATION_ID": "app",
            "THALWEG_DEFAULT_KEY_SERDE": "string",
            "THALWEG_PROCESSING_HANDLER": f"{HERE}:my_handler",
            "THALWEG_BOOTSTRAP_SERVERS": "a:1,b:2",
            "THALWEG_CONSUMER_CONFIGS__FETCH_MIN_BYTES": "5",
            "THALWEG_ENSURE_EXPLICIT_INTERNAL_RESOURCE_NAMING": "true",
            "OTHER_POLL_MS": "x",
        }
    )
    assert config.default_key_serde is serdes.string
    assert config.processing_handler is my_handler
    assert config.bootstrap_servers == "a:1,b:2"
    assert config.consumer_configs == {"fetch.min.bytes": "5"}
    assert config.ensure_explicit_internal_resource_naming


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poll_ms = ", "is not TOML"),
        ("pol_ms = 1", "'pol_ms' is not a setting; did you mean 'poll_ms'"),
        ("poll_ms = -1", "poll_ms cannot be -1"),
        ("poll = 100", "poll takes a timedelta"),
        ("topic_configs = 5", "a mapping"),
        ("[application_id]\na = 1", "application_id cannot be"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_name(
    toml: Callable[[str], Path], text: str, message: str
) -> None:
    path = toml(text)
    with pytest.raises(ConfigError, match=rf"settings\.toml.*{message}"):
        settings_of_toml(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        settings_of_toml(path)
    with pytest.raises(ConfigError, match=r"cannot read the settings in .*: Is a directory"):
        settings_of_toml(tmp_path)


def test_texts_of_a_command_line_are_read_like_the_rest() -> None:
    texts = [
        ("poll_ms", "1"),
        ("poll_ms", "2"),
        ("topic_configs.retention.ms", "5"),
        ("topic_configs.a", "b"),
    ]
    assert settings_of_text(texts) == {
        "poll_ms": 2,
        "topic_configs": {"retention.ms": "5", "a": "b"},
    }
    for name, message in (
        ("topic_configs", "topic_configs is a mapping"),
        ("topic_configs.", "topic_configs is a mapping"),
        ("poll_ms.a", "poll_ms is not a mapping"),
        ("pol_ms", "did you mean 'poll_ms'"),
    ):
        with pytest.raises(ConfigError, match=message):
            settings_of_text([(name, "1")])


# -- secrets -------------------------------------------------------------------------------

SECRET = "hunter2"

SECRETS = {
    "sasl.password": SECRET,
    "sasl.oauthbearer.client.secret": SECRET,
    "sasl.jaas.config": f"user={SECRET}",
    "ssl.key.password": SECRET,
    "ssl.key.pem": SECRET,
    "ssl.keystore.password": SECRET,
    "schema.registry.url": f"https://user:{SECRET}@registry:8081",
    "basic.auth.user.info": f"user:{SECRET}",
    "basic.auth.credentials": SECRET,
    "api.key": SECRET,
    "access.token": SECRET,
    "nested": {"sasl.password": SECRET},
    "listed": [f"https://user:{SECRET}@host"],
}


@pytest.mark.parametrize("mapping", ["consumer_configs", "producer_configs", "admin_configs"])
def test_secrets_are_never_shown(mapping: str) -> None:
    config = configured(**{mapping: SECRETS})
    assert SECRET not in repr(config)
    assert "sasl.password" in repr(config)
    assert getattr(config, mapping)["sasl.password"] == SECRET


def test_secrets_are_not_in_errors() -> None:
    for settings in (
        {"topic_configs": {"password": SECRET, "b": None}},
        {"bootstrap_servers": f"sasl://user:{SECRET}@broker"},
        {"consumer_configs": {"sasl.password": SECRET, 1: 2}},
        {"application_server": f"http://user:{SECRET}@host"},
    ):
        with pytest.raises(ConfigError) as raised:
            configured(**settings)
        assert SECRET not in str(raised.value)
        cause = raised.value.__cause__
        assert cause is None or SECRET not in str(cause)


def test_its_text_shows_what_is_not_default() -> None:
    text = repr(
        configured(poll_ms=5, default_key_serde=serdes.string, processing_handler=my_handler)
    )
    assert text == (
        "StreamsConfig(application_id='app', default_key_serde=string, "
        "commit_interval_ms=1000, poll_ms=5, processing_handler=my_handler)"
    )
