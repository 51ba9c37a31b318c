"""The forms that settings take: how a value is read, checked and shown.

Owns the readers behind the table of settings, each of which turns a value as given into the value
as kept and raises ValueError or TypeError with the accepted form; and how a value is shown
without secrets. It must not know which settings there are.

Source: JVM `ConfigDef`; kafka-streams reference A18.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from thalweg.stores.backends import BACKENDS, Backend, ByteStoreSupplier
from thalweg.stores.builders import StoreChoice
from thalweg.stores.callables import arity
from thalweg.stores.serde import SERDE_NAMES, Serde, attribute_named, serde_meant, serde_of
from thalweg.streams.error_handlers import BUILT_IN, ErrorHandler
from thalweg.topology.processor import (
    ProcessorWrapper,
    TimestampExtractor,
    fail_on_invalid_timestamp,
    log_and_skip_on_invalid_timestamp,
    use_partition_time_on_invalid_timestamp,
    wallclock_timestamp,
)

INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1

_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:,/]+):\d{1,5}")

_SECRET: Final = re.compile(
    r"password|secret|token|credential|user\.info|api[._-]?key|key[._]pem|sasl", re.IGNORECASE
)
_SECRET_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_HIDDEN: Final = "<hidden>"


def whole(least: int, most: int = _LONG_MAX, *, unit: str = "") -> Callable[[object], int]:
    """Returns the reader of whole numbers from `least` to `most`."""
    limits = f"from {least} to {most}" if most not in (INT_MAX, _LONG_MAX) else f">= {least}"
    form = f"a whole number {limits}{f' ({unit})' if unit else ''}"

    def read(value: object) -> int:
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise ValueError(form) from None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(form)
        return value

    return read


def duration(least: int) -> Callable[[object], int]:
    """Returns the reader of milliseconds from `least` on."""
    return whole(least, unit="milliseconds")


def optional_duration(least: int) -> Callable[[object], int | None]:
    """Returns the reader of milliseconds from `least` on, or of None."""
    read = duration(least)
    return lambda value: None if value is None else read(value)


def size(least: int) -> Callable[[object], int]:
    """Returns the reader of bytes from `least` on."""
    return whole(least, unit="bytes")


def flag(value: object) -> bool:
    """Reads a truth value."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def text(value: object) -> str:
    """Reads a text."""
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def topic_name(value: object) -> str | None:
    """Checks a name by Kafka's rule, so that it works on any transport."""
    if value is None:
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("1 to 249 of the characters a-z A-Z 0-9 . _ -")
    return value


def application_id(value: object) -> str:
    """Reads an application's id: it names topics and a directory, so it is what both allow."""
    name = topic_name(value)
    if name is None:
        raise ValueError("1 to 249 of the characters a-z A-Z 0-9 . _ -")
    return name


def servers(value: object) -> str | None:
    """Reads the addresses of a cluster."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    hosts = [host.strip() for host in value.split(",")] if isinstance(value, str) else []
    if not hosts or not all(_HOST_AND_PORT.fullmatch(re.sub(r"^\w+://", "", h)) for h in hosts):
        raise ValueError('one or more "host:port", separated by commas')
    return ",".join(hosts)


def server(value: object) -> str:
    """Reads the address of a server, "" for none."""
    if value == "":
        return ""
    if not isinstance(value, str) or not _HOST_AND_PORT.fullmatch(value):
        raise ValueError('"host:port"')
    return value


def path(value: object) -> Path:
    """Reads a path; `~` is the home directory."""
    if not isinstance(value, str | Path) or value == "":
        raise ValueError("a path")
    return Path(value).expanduser()


def one_of(*choices: str) -> Callable[[object], str]:
    """Returns the reader of one of some words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value

    return read


def version(value: object) -> str | None:
    """Reads a version of Kafka Streams."""
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"\d+\.\d+(\.\d+)?", value):
        raise ValueError('a version such as "3.4"')
    return value


def _named(value: str) -> Any:
    """Imports `module:attribute`."""
    return attribute_named(value)


def serde(value: object) -> Serde[Any]:
    """Reads a serde, or its name."""
    form = f"a Serde, one of {', '.join(SERDE_NAMES)}, or module:attribute"
    if isinstance(value, str) and ":" in value:
        value = _named(value)
    try:
        found = serde_of(value, "the setting")
    except TypeError as error:
        meant = serde_meant(value)
        raise ValueError(f"{form}; did you mean {meant}?" if meant else form) from error
    if found is None:
        raise ValueError(form)
    return found


def handler(value: object) -> ErrorHandler:
    """Reads an error handler, or its name."""
    form = f"a callable (context, record, error), one of {', '.join(BUILT_IN)}, or module:attribute"
    if isinstance(value, str):
        if value in BUILT_IN:
            return BUILT_IN[value]
        if ":" in value:
            value = _named(value)
    if not callable(value) or isinstance(value, type):
        raise ValueError(form)
    arity(value, {3: "context, record, error"}, "an error handler:")
    return cast("ErrorHandler", value)


_EXTRACTORS: Final[Mapping[str, TimestampExtractor]] = {
    "fail_on_invalid": fail_on_invalid_timestamp,
    "log_and_skip_on_invalid": log_and_skip_on_invalid_timestamp,
    "use_partition_time_on_invalid": use_partition_time_on_invalid_timestamp,
    "wallclock": wallclock_timestamp,
}


def extractor(value: object) -> TimestampExtractor | None:
    """Reads a timestamp extractor, or its name."""
    form = (
        f"a callable (record, partition_time_ms), one of {', '.join(_EXTRACTORS)}, "
        "or module:attribute"
    )
    if isinstance(value, str):
        if value in _EXTRACTORS:
            return _EXTRACTORS[value]
        if ":" in value:
            value = _named(value)
    if value is not None and not callable(value):
        raise ValueError(form)
    if value is not None:
        arity(value, {2: "record, partition_time_ms"}, "a timestamp extractor:")
    return cast("TimestampExtractor | None", value)


def processor_wrapper(value: object) -> ProcessorWrapper | None:
    """Reads a wrapper of processors, or its name."""
    if isinstance(value, str) and ":" in value:
        value = _named(value)
    if value is not None and not callable(value):
        raise ValueError("a callable (name, supplier) that returns a supplier, or module:attribute")
    if value is not None:
        arity(value, {2: "name, supplier"}, "a processor wrapper:")
    return cast("ProcessorWrapper | None", value)


def dsl_store(value: object) -> Backend | StoreChoice:
    """Reads what keeps the rows of stores, or who chooses it, or its name."""
    if isinstance(value, str) and ":" in value:
        value = _named(value)
    if isinstance(value, ByteStoreSupplier) or value in BACKENDS:
        return value
    if not callable(value):
        names = ", ".join(f'"{name}"' for name in BACKENDS)
        raise ValueError(
            f"one of {names}, a ByteStoreSupplier, a callable (store builder) that returns one of "
            "these, or module:attribute"
        )
    arity(value, {1: "store builder"}, "default_dsl_store:")
    return cast("StoreChoice", value)


def texts(value: object) -> Mapping[str, str]:
    """Reads a mapping of texts; numbers and booleans become what Kafka writes for them."""
    return MappingProxyType({name: _config_text(item) for name, item in _table(value).items()})


def _config_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise ValueError("a mapping of names to texts or numbers")
    return str(value)


def overrides(value: object) -> Mapping[str, Any]:
    """Reads a mapping of names to whatever a client takes."""
    return MappingProxyType(dict(_table(value)))


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError("a mapping of names to values")
    return value


def shown(name: str, value: object) -> str:
    """Returns a value's text with secrets hidden."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key!r}: {shown(str(key), item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if _SECRET.search(name):
        return _HIDDEN
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(name, item) for item in value)}]"
    if isinstance(value, str):
        return repr(_SECRET_IN_URL.sub(_HIDDEN, value))
    if isinstance(value, Serde):
        return str(value.name)
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value)
