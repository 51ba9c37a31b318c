"""How two streams are joined: how far apart in time records may be, and how they are kept.

Owns the limits of the settings, and the stores that they describe. It must not know streams.

Source: JVM `JoinWindows`, `StreamJoined`, `StreamJoinedStoreFactory`,
`OuterStreamJoinStoreFactory`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar, final

from thalweg.stores.backends import Backend
from thalweg.stores.builders import StoreBuilder, StoreChoice, list_store, window_store
from thalweg.stores.durations import Duration
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import Serde, SerdeHint, serde_of
from thalweg.stores.sides import SidedKeySerde, SidedValueSerde
from thalweg.topology.dsl.options import check_name, check_store, with_store
from thalweg.topology.dsl.windows import duration_ms
from thalweg.topology.errors import TopologyError

K = TypeVar("K")
V = TypeVar("V")
VO = TypeVar("VO")


@final
@dataclass(frozen=True, slots=True)
class JoinWindows:
    """How far apart in time two records may be to be joined; both ends are included.

        JoinWindows.of_time_difference(timedelta(minutes=5))
        JoinWindows.of_time_difference(timedelta(minutes=5), grace=timedelta(seconds=30))
        JoinWindows.of_time_difference(0).after(timedelta(hours=1))     # right ones up to 1 h later

    Attributes:
        before_ms: how much earlier than the left record the right one may be. A negative number
            demands a right record that is later by at least that.
        after_ms: how much later than the left record the right one may be.
        grace_ms: how long after the end of its window a record may still be matched by one that
            comes late, before a left or outer join joins it with None.
    """

    before_ms: int
    after_ms: int
    grace_ms: int = 0

    def __post_init__(self) -> None:
        """Checks the settings against each other."""
        if self.before_ms + self.after_ms < 0:
            raise ValueError(
                f"join windows from {-self.before_ms} ms to {self.after_ms} ms end before they "
                "begin: before and after together must not be negative"
            )
        if self.grace_ms < 0:
            raise ValueError(f"grace must not be negative, got {self.grace_ms} ms")

    @classmethod
    def of_time_difference(cls, difference: Duration, grace: Duration | None = None) -> JoinWindows:
        """Matches records that are at most `difference` apart, whichever is earlier.

        Args:
            difference: a timedelta or milliseconds.
            grace: without it, records without a match do not wait for late ones after their window.
        """
        difference_ms = duration_ms(difference, "time difference")
        grace_ms = 0 if grace is None else duration_ms(grace, "grace")
        return cls(difference_ms, difference_ms, grace_ms)

    def before(self, difference: Duration) -> JoinWindows:
        """Changes how much earlier than the left record the right one may be.

        Args:
            difference: may be negative; then the right record must be later by that at least.
        """
        return replace(self, before_ms=_signed_ms(difference, "before"))

    def after(self, difference: Duration) -> JoinWindows:
        """Changes how much later than the left record the right one may be.

        Args:
            difference: may be negative; then the right record must be earlier by that at least.
        """
        return replace(self, after_ms=_signed_ms(difference, "after"))

    @property
    def size_ms(self) -> int:
        """How far apart the ends of a window are."""
        return self.before_ms + self.after_ms

    @property
    def retention_ms(self) -> int:
        """How long a record is kept."""
        return self.size_ms + self.grace_ms


def _signed_ms(duration: Duration, what: str) -> int:
    """Turns a duration into milliseconds; unlike elsewhere it may be negative."""
    if isinstance(duration, timedelta):
        is_negative = duration < timedelta()
    else:
        is_negative = isinstance(duration, int) and duration < 0
    return -duration_ms(-duration, what) if is_negative else duration_ms(duration, what)


@final
@dataclass(frozen=True, kw_only=True)
class StreamJoined(Generic[K, V, VO]):
    """How the two sides of a join of streams are named, written and kept.

        StreamJoined(name="clicks-of-views", store_name="clicks-of-views")
        StreamJoined(key_serde=serdes.string, value_serde=orders, other_value_serde=payments)

    Attributes:
        name: base of the names of its processors and of its repartition topics, if there are any.
        store_name: base of the names of its stores, so of their changelogs.
        key_serde: how keys are written; that of the left stream if not given, else of the right.
        value_serde: how values of the left stream are written; the stream's if not given.
        other_value_serde: how values of the right stream are written; the stream's if not given.
        this_store: keeps the left stream's records: a `window_store` of the size and retention of
            the windows, with `retain_duplicates=True`. Its name, backend and logging count.
        other_store: keeps the right stream's records, likewise.
        store: what keeps the rows of stores that are not given, as in `Materialized`; None takes the
            application's `default_dsl_store`.
        logging: whether stores that are not given have a changelog; a dict gives its topic
            configs.
    """

    name: str | None = None
    store_name: str | None = None
    key_serde: Serde[K] | None = None
    value_serde: Serde[V] | None = None
    other_value_serde: Serde[VO] | None = None
    this_store: StoreBuilder | None = None
    other_store: StoreBuilder | None = None
    store: Backend | StoreChoice | None = None
    logging: bool | Mapping[str, str] = field(default=True)

    def __post_init__(self) -> None:
        """Takes serdes by name, and checks what is given."""
        for argument in ("key_serde", "value_serde", "other_value_serde"):
            serde = serde_of(getattr(self, argument), f"{argument} of StreamJoined")
            object.__setattr__(self, argument, serde)
        check_name(self.name)
        check_name(self.store_name)
        if isinstance(self.store, StoreBuilder):
            raise TypeError("give store builders to StreamJoined as this_store= and other_store=")
        if self.store is not None:
            check_store(self.store, "store of StreamJoined")
        for argument in ("this_store", "other_store"):
            given = getattr(self, argument)
            if given is not None and not isinstance(given, StoreBuilder):
                raise TypeError(
                    f"{argument} of StreamJoined must be a window_store(...), got {given!r}"
                )
        this, other = self.this_store, self.other_store
        if this is not None and other is not None and this.name == other.name:
            raise TopologyError(
                f"this_store and other_store of a join are both named {this.name!r}; "
                "give each a name of its own"
            )

    def window(
        self,
        windows: JoinWindows,
        given: StoreBuilder | None,
        made_name: str,
        value_serde: Serde[Any] | None,
        hint: SerdeHint,
    ) -> StoreBuilder:
        """Describes the store that keeps the records of one side.

        Args:
            windows: how long it keeps them.
            given: the store that the user has given, None where it is to be made.
            made_name: its name if it is to be made.
            value_serde: how values of the side are written.
            hint: where the join is given its serdes.

        Raises:
            TopologyError: the given store does not fit the windows.
        """
        store = given or self._kept(
            window_store(
                made_name,
                retention_ms=windows.retention_ms,
                window_size_ms=windows.size_ms,
                retain_duplicates=True,
            ),
            hint,
        )
        spec = store.spec
        if not isinstance(spec, WindowSpec):
            raise TopologyError(
                f"a join of streams keeps window stores, but it is given the {spec.kind} store "
                f"'{store.name}'; give one of window_store(...)"
            )
        if not spec.retain_duplicates:
            raise TopologyError(
                f"store '{store.name}' of a join keeps only the last record of a key and time; "
                "give window_store(..., retain_duplicates=True)"
            )
        fits = spec.retention_ms == windows.retention_ms and spec.window_size_ms == windows.size_ms
        if not fits:
            raise TopologyError(
                f"store '{store.name}' keeps windows of {spec.window_size_ms} ms for "
                f"{spec.retention_ms} ms, but the windows of its join have {windows.size_ms} ms and "
                f"are kept for {windows.retention_ms} ms; give it window_size_ms and retention_ms "
                "like that"
            )
        return replace(
            store,
            spec=spec.of_records(in_memory=store.backend == "memory"),
            key_serde=store.key_serde or self.key_serde,
            value_serde=store.value_serde or value_serde,
        )

    def waiting(self, made_name: str, suffix: str, hint: SerdeHint) -> StoreBuilder:
        """Describes the store in which records without a match wait.

        Args:
            made_name: its name if no other store is named.
            suffix: behind the name of the store that is.
            hint: where the join is given its serdes.
        """
        this = self.this_store
        name = made_name
        if this is not None:
            name = this.name + suffix
        elif self.store_name is not None:
            name = self.store_name + suffix
        store = self._kept(
            list_store(
                name + "-store",
                SidedKeySerde(self.key_serde),
                SidedValueSerde(self.value_serde, self.other_value_serde),
            ),
            hint,
        )
        if this is not None and self.store is None:
            store = replace(store, backend=this.backend)
        return store

    def _kept(self, store: StoreBuilder, hint: SerdeHint) -> StoreBuilder:
        """Returns a store that was not given, kept and logged as told."""
        store = replace(
            store,
            backend=None,
            logged=self.logging is not False,
            log_config=self._log_config,
            takes_dsl_format=self.store != "memory",
            hint=hint,
        )
        return store if self.store is None else with_store(store, self.store)

    @property
    def _log_config(self) -> Mapping[str, str]:
        return dict(self.logging) if isinstance(self.logging, Mapping) else {}
