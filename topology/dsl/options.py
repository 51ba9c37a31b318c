"""Options that travel together (`Materialized`), and how the DSL reads user functions.

Owns the options of a materialisation and the store that they describe, the rule for legal names,
and how the number of a function's arguments is found, once, while the topology is built. It must
not know streams or tables.

Source: JVM `Materialized`, `MaterializedInternal`, `KeyValueStoreMaterializer`,
`WindowStoreMaterializer`, `Named`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar, final

from thalweg.stores import callables
from thalweg.stores.backends import Backend, checked_backend
from thalweg.stores.builders import StoreBuilder, StoreChoice, default_segment_interval_ms
from thalweg.stores.kinds.key_value import KeyValueSpec
from thalweg.stores.kinds.session import SessionSpec
from thalweg.stores.kinds.typed import StoreSpec
from thalweg.stores.kinds.versioned import VersionedSpec
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.topology.dsl.windows import (
    SessionWindows,
    SlidingWindows,
    TimeWindows,
    UnlimitedWindows,
    duration_ms,
)
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.names import Names

K = TypeVar("K")
V = TypeVar("V")
AnySpec = TypeVar("AnySpec", KeyValueSpec, WindowSpec, SessionSpec)

_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_MAX_NAME_LENGTH = 249


@final
@dataclass(frozen=True)
class Materialized(Generic[K, V]):
    """How the result of an operation is kept in a store.

    A `Materialized` without a name is not the same as none: it shifts the numbers of
    generated names behind some operations, exactly as `Materialized.with(...)` of the JVM.

    Attributes:
        name: name of the store; with a name the table can be queried.
        key_serde: how the store writes keys; None inherits, else the application's default.
        value_serde: how the store writes values.
        logging: whether the store has a changelog; a dict gives its topic configs.
        caching: whether updates are held in the record cache until the next commit.
        retention: how long windows are kept (windowed stores only).
        store: what keeps the rows: "rocks", "memory", "sqlite", "lmdb" or "files", a
            `ByteStoreSupplier` of your own, or a function (store builder) -> one of these; or a
            store of `stores.builders` whose backend, name and serdes are taken. None takes what the
            application's `default_dsl_store` says, RocksDB without it.
    """

    name: str | None = None
    key_serde: Serde[K] | None = field(default=None, kw_only=True)
    value_serde: Serde[V] | None = field(default=None, kw_only=True)
    logging: bool | Mapping[str, str] = field(default=True, kw_only=True)
    caching: bool = field(default=True, kw_only=True)
    retention: timedelta | int | None = field(default=None, kw_only=True)
    store: Backend | StoreChoice | StoreBuilder | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Takes name and serdes of a given store, and checks what is given."""
        for argument in ("key_serde", "value_serde"):
            serde = serde_of(getattr(self, argument), f"{argument} of Materialized")
            if serde is None and isinstance(self.store, StoreBuilder):
                serde = getattr(self.store, argument)
            object.__setattr__(self, argument, serde)
        if isinstance(self.store, StoreBuilder):
            object.__setattr__(self, "name", self.name or self.store.name)
        elif self.store is not None:
            check_store(self.store, "store of Materialized")
        check_name(self.name)


@final
@dataclass(frozen=True, slots=True)
class Store:
    """A materialisation whose name is settled: given by the user, or made by the builder."""

    name: str
    queryable_name: str | None
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    given: Materialized[Any, Any]
    hint: SerdeHint

    def with_serdes(self, key_serde: Serde[Any] | None, value_serde: Serde[Any] | None) -> Store:
        """Returns the same with other serdes."""
        return replace(self, key_serde=key_serde, value_serde=value_serde)

    @property
    def is_versioned(self) -> bool:
        """Whether it keeps the former values of a key, too."""
        given = self.given.store
        return isinstance(given, StoreBuilder) and isinstance(given.spec, VersionedSpec)

    def key_value(self) -> StoreBuilder:
        """Describes the timestamped key-value store, or the versioned one that was given.

        Raises:
            TopologyError: the store that was given is of another kind.
        """
        if isinstance(self.given.store, StoreBuilder) and self.is_versioned:
            return replace(self._build(self.given.store.spec), cached=False)
        return self._build(self._given_spec(KeyValueSpec(is_timestamped=True)))

    def window(
        self, windows: TimeWindows | UnlimitedWindows | SlidingWindows, *, on_close: bool = False
    ) -> StoreBuilder:
        """Describes the timestamped window store for `windows`.

        Args:
            windows: the windows.
            on_close: whether results are sent on when windows close.

        Raises:
            TopologyError: the retention is too short, or the store that was given is of another
                kind.
        """
        size_ms, grace_ms = windows.size_ms, windows.grace_ms
        if isinstance(windows, SlidingWindows):
            # A record looks back as far to find the windows that it changes.
            needed_ms = 2 * size_ms + grace_ms
            shorter = f"twice the time difference of {size_ms} ms with the grace of {grace_ms} ms"
        else:
            needed_ms = size_ms + grace_ms
            shorter = f"a window of {size_ms} ms with its grace of {grace_ms} ms"
        spec = self._given_spec(WindowSpec(is_timestamped=True, is_time_first=on_close))
        retention_ms = self._enough_ms(needed_ms, spec.retention_ms, shorter)
        builder = self._build(
            replace(
                spec,
                retention_ms=retention_ms,
                window_size_ms=size_ms,
                segment_interval_ms=default_segment_interval_ms(retention_ms),
            )
        )
        # As in the JVM, where time windows have their cache nevertheless.
        is_uncached = on_close and isinstance(windows, SlidingWindows)
        return replace(builder, cached=False) if is_uncached else builder

    def session(self, windows: SessionWindows, *, on_close: bool = False) -> StoreBuilder:
        """Describes the session store for `windows`.

        Args:
            windows: the windows.
            on_close: whether results are sent on when sessions close.

        Raises:
            TopologyError: the retention is too short, or the store that was given is of another
                kind.
        """
        needed_ms = windows.gap_ms + windows.grace_ms
        spec = self._given_spec(SessionSpec())
        retention_ms = self._enough_ms(
            needed_ms,
            spec.retention_ms,
            f"the gap of {windows.gap_ms} ms with the grace of {windows.grace_ms} ms",
        )
        builder = self._build(
            replace(
                spec,
                retention_ms=retention_ms,
                segment_interval_ms=default_segment_interval_ms(retention_ms),
                is_time_first=on_close,
            )
        )
        return replace(builder, cached=False) if on_close else builder

    def _enough_ms(self, needed_ms: int, given_ms: int, shorter: str) -> int:
        retention_ms = self.retention_ms(needed_ms, given_ms)
        if retention_ms < needed_ms:
            raise TopologyError(
                f"store {self.name}: retention of {retention_ms} ms is shorter than {shorter}; "
                f"retain at least {needed_ms} ms"
            )
        return retention_ms

    def retention_ms(self, needed_ms: int, given_ms: int) -> int:
        """Returns how long windows are kept: as told, as the given store does, or as needed."""
        if self.given.retention is not None:
            return duration_ms(self.given.retention, "retention")
        return given_ms or needed_ms

    def _given_spec(self, needed: AnySpec) -> AnySpec:
        """Returns the spec of the store that was given, with timestamps; `needed` without one.

        Raises:
            TopologyError: the store is of another kind.
        """
        if not isinstance(self.given.store, StoreBuilder):
            return needed
        spec = self.given.store.spec
        if not isinstance(spec, type(needed)):
            raise TopologyError(
                f"{self.hint.operator or 'the operator'} keeps a {needed.kind} store, but "
                f"materialized gives the {spec.kind} store '{self.given.store.name}'; "
                f"give one of {needed.function}(...)"
            )
        return spec.with_timestamps()

    def _build(self, spec: StoreSpec) -> StoreBuilder:
        given = self.given
        logging = given.logging
        log_config = dict(logging) if isinstance(logging, Mapping) else {}
        if isinstance(given.store, StoreBuilder):
            base = replace(given.store, name=self.name, spec=spec)
        else:
            # As in the JVM, stores in memory do not ask the setting.
            by_setting = given.store in (None, "rocks")
            base = StoreBuilder(
                name=self.name, spec=spec, backend=None, takes_dsl_format=by_setting
            )
            if given.store is not None:
                base = with_store(base, given.store)
        return replace(
            base,
            key_serde=self.key_serde,
            value_serde=self.value_serde,
            logged=logging is not False,
            log_config=log_config,
            cached=given.caching,
            hint=self.hint,
        )


def check_store(given: object, what: str) -> None:
    """Looks at what is to keep the rows of stores.

    Raises:
        TypeError: it is a function that does not take a store's description.
        ValueError: it can keep none.
    """
    if callable(given):
        callables.arity(given, {1: "store builder"}, what)
    else:
        checked_backend(given, what)


def with_store(builder: StoreBuilder, store: Backend | StoreChoice) -> StoreBuilder:
    """Returns a store whose rows are kept where it says, or where it chooses."""
    return builder.with_backend(store(builder) if callable(store) else store)


def with_name(
    materialized: Materialized[K, V] | None, name: str | None
) -> Materialized[K, V] | None:
    """Brings a store name given for short together with a materialisation.

    Raises:
        TypeError: if both name the store, differently.
    """
    if name is None:
        return materialized
    if materialized is None:
        return Materialized(name)
    if materialized.name not in (None, name):
        raise TypeError(f"the store is named twice, {name!r} and {materialized.name!r}")
    return replace(materialized, name=name)


def settle(
    names: Names,
    materialized: Materialized[Any, Any] | None,
    prefix: str,
    *,
    key_serde: Serde[Any] | None = None,
    value_serde: Serde[Any] | None = None,
    hint: SerdeHint | None = None,
) -> Store:
    """Settles the name of a store, making one if needed, and its serdes.

    Args:
        names: makes the name.
        materialized: what the user asked for.
        prefix: of a generated name.
        key_serde: for a materialisation that has none.
        value_serde: for a materialisation that has none.
        hint: where the operator is given its serdes; not the one that the materialisation has.
    """
    given: Materialized[Any, Any] = Materialized() if materialized is None else materialized
    hint = hint or SerdeHint()
    if given.key_serde is not None:
        hint = hint._replace(key="Materialized(..., key_serde=...)")
    if given.value_serde is not None:
        hint = hint._replace(value="Materialized(..., value_serde=...)")
    return Store(
        given.name or names.new_store_name(prefix),
        given.name,
        given.key_serde or key_serde,
        given.value_serde or value_serde,
        given,
        hint,
    )


def aggregate_serde(given: object, materialized: Materialized[Any, Any] | None) -> Any:
    """Returns the serde of aggregates that was given by itself.

    Raises:
        TypeError: it is no serde, or `materialized` has another.
    """
    serde = serde_of(given, "value_serde of aggregate()")
    other = materialized and materialized.value_serde
    if serde is not None and other is not None and other != serde:
        raise TypeError(
            f"aggregate() is given two value serdes, {serde.name} and, by materialized, "
            f"{other.name}; leave one out"
        )
    return serde


def materialized_hint(operator: str) -> SerdeHint:
    """Returns the hint of an operator whose serdes are given by `materialized=` only."""
    given = f"{operator}(..., materialized=Materialized(..., "
    return SerdeHint(f"{operator}()", f"{given}key_serde=...))", f"{given}value_serde=...))")


def check_name(name: str | None) -> str | None:
    """Returns a name given by the user if it is legal as part of a topic name.

    Raises:
        TopologyError: if it is empty, too long, "." or "..", or has other characters.
    """
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, got {name!r}")
    if name in (".", "..") or len(name) > _MAX_NAME_LENGTH or _LEGAL_NAME.fullmatch(name) is None:
        raise TopologyError(
            f"name {name!r} is illegal: use 1 to {_MAX_NAME_LENGTH} of the characters "
            'a-z, A-Z, 0-9, ".", "_" and "-", and not "." or ".." alone'
        )
    return name


def arity(fn: Callable[..., Any], options: Mapping[int, str], operator: str) -> int:
    """Tells with how many arguments to call a user function; see `stores.callables.arity`.

    Args:
        fn: the function.
        options: numbers of arguments the operator can call with, each with their names.
        operator: the operator, for messages.

    Raises:
        TypeError: if it is not callable, is async, or takes none of the numbers of arguments.
    """
    return callables.arity(fn, options, f"{operator}()")
