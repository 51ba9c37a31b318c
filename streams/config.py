"""The settings of an application: names, defaults, ranges, where they may come from.

Owns `StreamsConfig` and the table behind it. A setting has the JVM's name in snake_case, its unit
last (`_ms`, `_bytes`). Values come from keyword arguments, from the environment (`THALWEG_<NAME>`)
and from a TOML file; the earlier source wins. Every value is checked, and an unknown name is
refused with the closest known one. Variables that Kubernetes sets for a Service whose name begins
with thalweg are ignored. Values that look like secrets are never printed. This module must not know
what the settings do.

A TOML file holds settings at its top level, and tables for settings that are mappings:

    application_id = "word-count"
    commit_interval_ms = 500
    deserialization_handler = "log_and_continue"
    [topic_configs]
    "retention.ms" = "86400000"

In the environment an entry of a mapping is written `THALWEG_CONSUMER_CONFIGS__FETCH_MIN_BYTES`
(for `fetch.min.bytes`). Serdes, handlers and extractors are named there by their built-in
name (`string`, `log_and_continue`, `wallclock`) or as `module:attribute`.

Source: JVM `StreamsConfig`; kafka-streams reference A18.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypedDict, Unpack, cast

from thalweg.stores.backends import Backend
from thalweg.stores.builders import StoreChoice
from thalweg.stores.durations import to_ms
from thalweg.stores.serde import (
    Serde,
    serdes,
)
from thalweg.streams import setting_forms as forms
from thalweg.streams.error_handlers import (
    DeserializationHandler,
    ProcessingHandler,
    ProductionHandler,
    log_and_fail,
    retry_or_fail,
)
from thalweg.streams.errors import ConfigError
from thalweg.streams.similar_names import similar_names
from thalweg.topology.processor import ProcessorWrapper, TimestampExtractor
from thalweg.topology.subtopologies import TopologyConfig

ENVIRONMENT_PREFIX: Final = "THALWEG_"
CONFIG_FILE_VARIABLE: Final = "THALWEG_CONFIG"
"""Environment variable that names the TOML file `StreamsConfig.load` reads."""

ProcessingGuarantee = Literal["at_least_once", "exactly_once_v2"]

_TRANSACTION_TIMEOUT_MS: Final = 10_000
"""The JVM's transaction.timeout.ms for streams applications."""

_COMMIT_INTERVAL_LOCAL_MS: Final = 1_000
_COMMIT_INTERVAL_EXACTLY_ONCE_MS: Final = 100
_COMMIT_INTERVAL_AT_LEAST_ONCE_MS: Final = 30_000


class Settings(TypedDict, total=False):
    """What may be given as keyword arguments; see `StreamsConfig` for what each means."""

    application_id: str
    bootstrap_servers: str | None
    application_server: str
    state_dir: str | Path
    data_dir: str | Path
    default_key_serde: Serde[Any]
    default_value_serde: Serde[Any]
    default_timestamp_extractor: TimestampExtractor | None
    default_partitions: int
    processing_guarantee: str
    num_workers: int
    commit_interval_ms: int
    commit_interval: timedelta
    poll_ms: int
    poll: timedelta
    max_poll_records: int
    max_task_idle_ms: int
    max_task_idle: timedelta
    buffered_records_per_partition: int
    task_timeout_ms: int
    task_timeout: timedelta
    repartition_purge_interval_ms: int
    repartition_purge_interval: timedelta
    state_cleanup_delay_ms: int
    state_cleanup_delay: timedelta
    statestore_cache_max_bytes: int
    rocksdb_block_cache_bytes: int
    rocksdb_write_buffer_bytes: int
    deserialization_handler: DeserializationHandler
    processing_handler: ProcessingHandler
    processing_handler_global_enabled: bool
    production_handler: ProductionHandler
    dead_letter_queue_topic: str | None
    replication_factor: int
    window_store_changelog_additional_retention_ms: int
    window_store_changelog_additional_retention: timedelta
    topology_optimization: str
    process_may_change_keys: bool
    processor_wrapper: ProcessorWrapper | None
    dsl_store_format: str
    default_dsl_store: Backend | StoreChoice
    upgrade_from: str | None
    ensure_explicit_internal_resource_naming: bool
    outer_join_emit_interval_ms: int
    outer_join_emit_interval: timedelta
    window_emit_interval_ms: int
    window_emit_interval: timedelta
    topic_configs: Mapping[str, str]
    consumer_configs: Mapping[str, Any]
    producer_configs: Mapping[str, Any]
    admin_configs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Setting:
    """One row of the table.

    Attributes:
        read: turns a value as given into the value as kept; raises ValueError or TypeError
            with the accepted form.
        default: the value when nothing is given, already as kept.
        is_mapping: whether its value is a table in TOML.
    """

    read: Callable[[object], Any]
    default: Any
    is_mapping: bool = False


_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

_SETTINGS: Final[Mapping[str, _Setting]] = {
    "application_id": _Setting(forms.application_id, None),
    "bootstrap_servers": _Setting(forms.servers, None),
    "application_server": _Setting(forms.server, ""),
    "state_dir": _Setting(forms.path, Path(".thalweg/state")),
    "data_dir": _Setting(forms.path, Path(".thalweg/log")),
    "default_key_serde": _Setting(forms.serde, serdes.bytes),
    "default_value_serde": _Setting(forms.serde, serdes.bytes),
    "default_timestamp_extractor": _Setting(forms.extractor, None),
    "default_partitions": _Setting(forms.whole(1, 100_000), 1),
    "processing_guarantee": _Setting(
        forms.one_of("at_least_once", "exactly_once_v2"), "at_least_once"
    ),
    "num_workers": _Setting(forms.whole(1, 1024), 1),
    # None: decided by transport and guarantee, see `_commit_interval_ms`.
    "commit_interval_ms": _Setting(forms.duration(0), None),
    "poll_ms": _Setting(forms.duration(0), 100),
    "max_poll_records": _Setting(forms.whole(1, forms.INT_MAX), 10_000),
    "max_task_idle_ms": _Setting(forms.duration(-1), 0),
    "buffered_records_per_partition": _Setting(forms.whole(1, forms.INT_MAX), 1_000),
    "task_timeout_ms": _Setting(forms.duration(0), 300_000),
    "repartition_purge_interval_ms": _Setting(forms.duration(0), 30_000),
    "state_cleanup_delay_ms": _Setting(forms.duration(0), 600_000),
    "statestore_cache_max_bytes": _Setting(forms.size(0), 10 * 1024 * 1024),
    "rocksdb_block_cache_bytes": _Setting(forms.size(0), 50 * 1024 * 1024),
    "rocksdb_write_buffer_bytes": _Setting(forms.size(64 * 1024), 64 * 1024 * 1024),
    "deserialization_handler": _Setting(forms.handler, log_and_fail),
    "processing_handler": _Setting(forms.handler, log_and_fail),
    "processing_handler_global_enabled": _Setting(forms.flag, False),
    "production_handler": _Setting(forms.handler, retry_or_fail),
    "dead_letter_queue_topic": _Setting(forms.topic_name, None),
    "replication_factor": _Setting(forms.whole(-1, 32_767), -1),
    "window_store_changelog_additional_retention_ms": _Setting(forms.duration(0), 86_400_000),
    "topology_optimization": _Setting(forms.text, "none"),
    "process_may_change_keys": _Setting(forms.flag, False),
    "processor_wrapper": _Setting(forms.processor_wrapper, None),
    "dsl_store_format": _Setting(forms.one_of("default", "headers"), "default"),
    "default_dsl_store": _Setting(forms.dsl_store, "rocks"),
    "upgrade_from": _Setting(forms.version, None),
    "ensure_explicit_internal_resource_naming": _Setting(forms.flag, False),
    # None: 1000, and 0 in the test driver.
    "outer_join_emit_interval_ms": _Setting(forms.optional_duration(0), None),
    # Likewise.
    "window_emit_interval_ms": _Setting(forms.optional_duration(0), None),
    "topic_configs": _Setting(forms.texts, _EMPTY, is_mapping=True),
    "consumer_configs": _Setting(forms.overrides, _EMPTY, is_mapping=True),
    "producer_configs": _Setting(forms.overrides, _EMPTY, is_mapping=True),
    "admin_configs": _Setting(forms.overrides, _EMPTY, is_mapping=True),
}


@dataclass(frozen=True, init=False, repr=False)
class StreamsConfig:
    """The settings of one application: checked, complete, unchangeable.

    A duration may also be given as a timedelta, under its name without `_ms`:
    `commit_interval=timedelta(seconds=1)`.

    Attributes:
        application_id: names the application's group, its internal topics and its state
            directory. Required.
        bootstrap_servers: the Kafka cluster, `host:port,...`; None keeps everything in an
            embedded log under `data_dir`.
        application_server: `host:port` at which this instance answers queries, "" for none.
        state_dir: directory of local state: `<state_dir>/<application_id>/<task id>/`.
        data_dir: directory of the embedded log; applications sharing one share its topics.
        default_key_serde: used where neither operator nor upstream names one (the JVM has no
            default; here it is bytes).
        default_value_serde: the same for values.
        default_timestamp_extractor: used by sources without one; None takes the record's own
            timestamp and fails at a negative one.
        default_partitions: partitions of topics the embedded log creates by itself.
        processing_guarantee: "at_least_once" or "exactly_once_v2". On the embedded log a commit
            is one atomic batch: there it is exactly once either way.
        num_workers: worker processes of this instance.
        commit_interval_ms: how often progress is committed; rows in caches are forwarded
            then. By default 30000 on Kafka, 100 with exactly-once; 1000 on the embedded log.
        poll_ms: how long to wait for records when there is nothing to do.
        max_poll_records: most records taken from the log at once. The JVM's 1000 is for
            records it decodes at once; here they stay raw until their turn.
        max_task_idle_ms: how long a task waits for an empty input before it processes the
            others out of order: 0 waits only for records known to be there, -1 never waits.
        buffered_records_per_partition: a partition with more records waiting is paused.
        task_timeout_ms: how long a task, or one record, may fail with temporary errors; each time
            the worker goes back to the last commit. After that the processing handler is called
            for a record, and a task fails. Time in which brokers are away does not count.
        repartition_purge_interval_ms: how often consumed repartition records are deleted.
        state_cleanup_delay_ms: how long state of a task that moved away is kept.
        statestore_cache_max_bytes: record cache of a worker, shared by its stores; 0 turns
            caching off.
        rocksdb_block_cache_bytes: read cache shared by all RocksDB stores of a process.
        rocksdb_write_buffer_bytes: memtable budget shared by all RocksDB stores of a process.
        deserialization_handler: decides about records that cannot be decoded.
        processing_handler: decides about records for which user code raised.
        processing_handler_global_enabled: whether it also decides about records of global
            stores; otherwise such a failure stops the application.
        production_handler: decides about records that cannot be encoded, or that the log
            refuses for what they are.
        dead_letter_queue_topic: where the built-in handlers send failed records; None for no topic.
        replication_factor: of internal topics; -1 leaves it to the broker.
        window_store_changelog_additional_retention_ms: added to a window's retention in its
            changelog, for clocks that drift.
        topology_optimization: "none", "all", or some of "reuse.ktable.source.topics",
            "merge.repartition.topics" and "single.store.self.join", with commas between.
        process_may_change_keys: whether the merge of repartition topics assumes that `process`
            and `process_values` change keys and values. The JVM knows it as
            `__enable.process.processValue.fix__`; it changes topologies that run already.
        processor_wrapper: (name of a processor, supplier) -> supplier, asked of each processor of
            a `StreamsBuilder`'s topology; see `ProcessorWrapper`. A `Topology` takes its own.
        dsl_store_format: what the rows of the DSL's stores on disk keep: "default", or "headers"
            for each value's headers as well; read by `build`.
        default_dsl_store: the byte store of stores that operators make, unless they set their own:
            "rocks", "memory", "sqlite", "lmdb", "files", a `ByteStoreSupplier`, or a function
            (store builder) -> one of these. The JVM knows it as `default.dsl.store` and
            `dsl.store.suppliers.class`.
        upgrade_from: version of the JVM library whose formats are written during an upgrade.
        ensure_explicit_internal_resource_naming: refuse generated names of stores and topics.
        outer_join_emit_interval_ms: how often left and outer joins of streams look for records
            whose window was closed without a match. The JVM has it as an internal setting,
            `__emit.interval.ms.kstreams.outer.join.spurious.results.fix__`. The test driver looks
            each time, unless it is set.
        window_emit_interval_ms: how often aggregations that send results when windows close look
            for closed windows. The JVM has it as an internal setting,
            `__emit.interval.ms.kstreams.windowed.aggregation__`. The test driver looks each time,
            unless it is set.
        topic_configs: settings of internal topics, by Kafka's names.
        consumer_configs: settings of the Kafka consumer, by librdkafka's names.
        producer_configs: settings of the Kafka producer.
        admin_configs: settings of the Kafka admin client.
    """

    application_id: str
    bootstrap_servers: str | None
    application_server: str
    state_dir: Path
    data_dir: Path
    default_key_serde: Serde[Any]
    default_value_serde: Serde[Any]
    default_timestamp_extractor: TimestampExtractor | None
    default_partitions: int
    processing_guarantee: ProcessingGuarantee
    num_workers: int
    commit_interval_ms: int
    poll_ms: int
    max_poll_records: int
    max_task_idle_ms: int
    buffered_records_per_partition: int
    task_timeout_ms: int
    repartition_purge_interval_ms: int
    state_cleanup_delay_ms: int
    statestore_cache_max_bytes: int
    rocksdb_block_cache_bytes: int
    rocksdb_write_buffer_bytes: int
    deserialization_handler: DeserializationHandler
    processing_handler: ProcessingHandler
    processing_handler_global_enabled: bool
    production_handler: ProductionHandler
    dead_letter_queue_topic: str | None
    replication_factor: int
    window_store_changelog_additional_retention_ms: int
    topology_optimization: str
    process_may_change_keys: bool
    processor_wrapper: ProcessorWrapper | None
    dsl_store_format: str
    default_dsl_store: Backend | StoreChoice
    upgrade_from: str | None
    ensure_explicit_internal_resource_naming: bool
    outer_join_emit_interval_ms: int | None
    window_emit_interval_ms: int | None
    topic_configs: Mapping[str, str]
    consumer_configs: Mapping[str, Any]
    producer_configs: Mapping[str, Any]
    admin_configs: Mapping[str, Any]

    def __init__(self, **settings: Unpack[Settings]) -> None:
        """Checks the settings and fills in defaults. Reads neither files nor environment.

        Raises:
            ConfigError: a setting is unknown, missing or out of range; the message names it
                and the accepted form.
        """
        checked = _checked(settings, "argument")
        if "application_id" not in checked:
            raise ConfigError(
                "application_id is not set: it names the application's group, topics and state; "
                'give application_id="…" or set THALWEG_APPLICATION_ID'
            )
        values = {name: setting.default for name, setting in _SETTINGS.items()} | checked
        if values["commit_interval_ms"] is None:
            values["commit_interval_ms"] = _commit_interval_ms(values)
        _check_together(values)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def load(
        cls,
        *,
        toml: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: Unpack[Settings],
    ) -> StreamsConfig:
        """Merges keyword arguments, environment and a TOML file, in this order of precedence.

        Args:
            toml: the file; None reads the one THALWEG_CONFIG names, if any.
            environment: names -> values; None reads the process's own.
            settings: as for the constructor.

        Raises:
            ConfigError: as the constructor, and for a file that cannot be read.
        """
        environment = os.environ if environment is None else environment
        toml = toml if toml is not None else environment.get(CONFIG_FILE_VARIABLE)
        merged: dict[str, Any] = {} if toml is None else settings_of_toml(Path(toml))
        for given in (_environment_settings(environment), _checked(settings, "argument")):
            for name, value in given.items():
                is_mapping = _SETTINGS[name].is_mapping
                merged[name] = {**merged.get(name, {}), **value} if is_mapping else value
        return cls(**cast("Settings", merged))

    @classmethod
    def from_toml(cls, path: str | Path, **settings: Unpack[Settings]) -> StreamsConfig:
        """Reads a TOML file, without the environment; keyword arguments win.

        Raises:
            ConfigError: the file cannot be read, or as the constructor.
        """
        return cls.load(toml=path, environment={}, **settings)

    @classmethod
    def from_env(
        cls, environment: Mapping[str, str] | None = None, **settings: Unpack[Settings]
    ) -> StreamsConfig:
        """Reads `THALWEG_*` and the TOML file THALWEG_CONFIG names; keyword arguments win.

        Raises:
            ConfigError: as the constructor; names the variable.
        """
        return cls.load(environment=environment, **settings)

    @property
    def is_exactly_once(self) -> bool:
        """Whether outputs, state and offsets are committed in one transaction."""
        return self.processing_guarantee == "exactly_once_v2"

    @property
    def is_local(self) -> bool:
        """Whether the application runs on the embedded log."""
        return self.bootstrap_servers is None

    @property
    def topology_config(self) -> TopologyConfig:
        """The part that shapes internal topics."""
        return TopologyConfig(
            application_id=self.application_id,
            topic_configs=self.topic_configs,
            replication_factor=self.replication_factor,
            window_changelog_additional_retention_ms=(
                self.window_store_changelog_additional_retention_ms
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns name -> value of every setting, secrets included."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def replace(self, **settings: Unpack[Settings]) -> StreamsConfig:
        """Returns the configuration with some settings changed.

        Raises:
            ConfigError: as the constructor.
        """
        values = self.as_dict()
        if self.commit_interval_ms == _commit_interval_ms(values):
            del values["commit_interval_ms"]  # it follows the log and the guarantee
        return type(self)(**cast("Settings", {**values, **_checked(settings, "argument")}))

    def __repr__(self) -> str:
        """Shows what differs from the defaults, without secrets."""
        shown = ", ".join(
            f"{name}={forms.shown(name, getattr(self, name))}"
            for name, setting in _SETTINGS.items()
            if getattr(self, name) != setting.default
        )
        return f"StreamsConfig({shown})"


def _commit_interval_ms(values: Mapping[str, Any]) -> int:
    if values["bootstrap_servers"] is None:
        return _COMMIT_INTERVAL_LOCAL_MS
    if values["processing_guarantee"] == "exactly_once_v2":
        return _COMMIT_INTERVAL_EXACTLY_ONCE_MS
    return _COMMIT_INTERVAL_AT_LEAST_ONCE_MS


def _check_together(values: Mapping[str, Any]) -> None:
    """Refuses combinations in which one setting defeats another."""
    if values["bootstrap_servers"] is None:
        if values["num_workers"] > 1:
            raise ConfigError(
                f"num_workers is {values['num_workers']}, but one process owns the embedded log; "
                "leave it at 1, or set bootstrap_servers"
            )
    elif values["processing_guarantee"] == "exactly_once_v2":
        given = values["producer_configs"].get("transaction.timeout.ms", _TRANSACTION_TIMEOUT_MS)
        if values["commit_interval_ms"] > int(given):
            raise ConfigError(
                f"commit_interval_ms is {values['commit_interval_ms']}, longer than the "
                f"transaction.timeout.ms of {given}: transactions would be aborted before they "
                "commit; shorten the one or raise the other in producer_configs"
            )


def _checked(settings: Mapping[str, Any], origin: str = "") -> dict[str, Any]:
    """Reads given settings into the values that are kept.

    Args:
        settings: name -> value.
        origin: what they are, for an error; "" where nothing better than "setting" is known.
    """
    checked: dict[str, Any] = {}
    for name, value in settings.items():
        kept, given = name, value
        if isinstance(value, timedelta) and f"{name}_ms" in _SETTINGS:
            kept, given = f"{name}_ms", to_ms(value)
            if value and not given:
                raise _refused(name, value, ValueError("at least a millisecond, or none"))
        setting = _SETTINGS.get(kept)
        if setting is None:
            raise _unknown(name, origin)
        if kept in checked:
            raise ConfigError(f"{kept} is given twice, as {name} too; leave one out")
        try:
            checked[kept] = setting.read(given)
        except (ValueError, TypeError) as error:
            raise _refused(name, value, error) from error
    return checked


def _refused(name: str, value: Any, error: Exception) -> ConfigError:
    return ConfigError(f"{name} cannot be {forms.shown(name, value)}; it takes {error}")


def _unknown(name: str, origin: str) -> ConfigError:
    known = [*_SETTINGS, *(n.removesuffix("_ms") for n in _SETTINGS if n.endswith("_ms"))]
    if name in known:
        return ConfigError(f"{name} takes a timedelta; milliseconds are given as {name}_ms")
    close, shown = closest(name, known), f"{origin} {name!r}" if origin else repr(name)
    if close is None:
        return ConfigError(f"{shown} is not a setting, and none is called like it")
    return ConfigError(f"{shown} is not a setting; did you mean {close!r}?")


_WORD_LEAST: Final = 2

_OTHER_WORDS: Final[Mapping[str, str]] = {
    "brokers": "bootstrap_servers",
    "cache_max_bytes_buffering": "statestore_cache_max_bytes",
    "default_deserialization_exception_handler": "deserialization_handler",
    "default_production_exception_handler": "production_handler",
    "errors_dead_letter_queue_topic_name": "dead_letter_queue_topic",
    "exactly_once": "processing_guarantee",
    "group_id": "application_id",
    "num_stream_threads": "num_workers",
    "threads": "num_workers",
}
"""What others call a setting: Kafka Streams, Kafka, or who knows what it takes."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Returns the setting that a name may stand for; None where none is near enough.

    That is one whose letters are nearly the same, or which has all words of the name or begins
    them so, as `cache_max_bytes` stands for `statestore_cache_max_bytes`, `app_id` for
    `application_id`.
    """
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    names = list(known)
    if name in names:
        return name
    if name in _OTHER_WORDS and _OTHER_WORDS[name] in names:
        return _OTHER_WORDS[name]
    similar = similar_names(name, names)
    if similar:
        return similar[0]
    words = name.split("_")
    if min(map(len, words)) < _WORD_LEAST:
        return None
    longer = [
        one
        for one in names
        if all(any(other.startswith(word) for other in one.split("_")) for word in words)
    ]
    return min(longer, key=len, default=None)


# What Kubernetes tells every container of a namespace about each Service in it, by the Service's
# name: one called thalweg, or thalweg-ui, gives names that begin as ours do. The value has to be
# what Kubernetes writes, so that a setting that is misspelt the same way is still refused.
_NUMBER: Final = r"\d{1,5}"
_ADDRESS: Final = r"[0-9a-fA-F:.]+"
_URL: Final = rf"(?:tcp|udp|sctp)://(?:\[{_ADDRESS}\]|[0-9.]+|{_ADDRESS}):{_NUMBER}"
_OF_SERVICES: Final = tuple(
    (re.compile(rf"(?:\w+_)?{name}"), re.compile(value))
    for name, value in (
        ("SERVICE_HOST", _ADDRESS),
        (r"SERVICE_PORT(?:_\w+)?", _NUMBER),
        ("PORT", _URL),
        (rf"PORT_{_NUMBER}_(?:TCP|UDP|SCTP)", _URL),
        (rf"PORT_{_NUMBER}_(?:TCP|UDP|SCTP)_PROTO", "(?:tcp|udp|sctp)"),
        (rf"PORT_{_NUMBER}_(?:TCP|UDP|SCTP)_PORT", _NUMBER),
        (rf"PORT_{_NUMBER}_(?:TCP|UDP|SCTP)_ADDR", _ADDRESS),
    )
)


def _is_of_service(name: str, value: str) -> bool:
    """Tells whether a variable, named without our prefix, tells of a Service of Kubernetes."""
    return any(names.fullmatch(name) and values.fullmatch(value) for names, values in _OF_SERVICES)


def _environment_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for variable, value in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_FILE_VARIABLE:
            continue
        name, is_entry, entry = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        setting = _SETTINGS.get(name)
        if setting is None:
            if _is_of_service(variable.removeprefix(ENVIRONMENT_PREFIX), value):
                continue
            close = closest(name, _SETTINGS)
            raise ConfigError(
                f"environment variable {variable} is not a setting"
                + (
                    ", and none is called like it; unset it: what begins with "
                    f"{ENVIRONMENT_PREFIX} is taken for a setting"
                    if close is None
                    else f"; did you mean {ENVIRONMENT_PREFIX}{close.upper()}?"
                )
            )
        if setting.is_mapping:
            if not is_entry:
                raise ConfigError(
                    f"environment variable {variable} is a mapping; set its entries as "
                    f"{variable}__<NAME_OF_ENTRY>"
                )
            given.setdefault(name, {})[entry.replace("_", ".")] = value
            continue
        if is_entry:
            raise ConfigError(
                f"environment variable {variable}: {name} is not a mapping; set "
                f"{ENVIRONMENT_PREFIX}{name.upper()} to its value"
            )
        try:
            given[name] = setting.read(value)
        except (ValueError, TypeError) as error:
            raise _refused(variable, value, error) from error
    return given


def settings_of_text(texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Reads settings given as (name, text), as on a command line; the last of a name wins.

    An entry of a mapping is named `topic_configs.retention.ms`.

    Raises:
        ConfigError: a name is unknown, a text is not what the setting takes.
    """
    given: dict[str, Any] = {}
    for name, text in texts:
        mapping, is_entry, entry = name.partition(".")
        setting = _SETTINGS.get(mapping)
        if setting is not None and setting.is_mapping:
            if not entry:
                raise ConfigError(f"{mapping} is a mapping; set its entries as {mapping}.<name>=…")
            given.setdefault(mapping, {})[entry] = text
        elif is_entry and setting is not None:
            raise ConfigError(f"{name}: {mapping} is not a mapping; give it one value, {mapping}=…")
        else:
            given.update(_checked({name: text}))
    return given


def settings_of_toml(path: Path) -> dict[str, Any]:
    """Reads the settings of a TOML file.

    Raises:
        ConfigError: the file cannot be read, a name is unknown, a value is not what the setting
            takes; names the file.
    """
    try:
        with path.open("rb") as file:
            given = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the settings in {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not TOML: it is not UTF-8") from error
    try:
        return _checked(given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
