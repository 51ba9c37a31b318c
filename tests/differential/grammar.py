"""Random plans: topologies over all operations, and input that is hard on them.

Owns which operations may follow which, and what input is hard: equal times, times that go back,
deletions, missing keys and values, commits in between. A plan is JSON; README.md tells its form.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.differential.plan import MAKERS

TOPICS: Final = ("a", "b", "c")
KEYS: Final = ("k0", "k1", "k2", "ka", "kb", None)
KEY_WEIGHTS: Final = (6, 5, 3, 2, 2, 1)
VALUES: Final = ("a", "b", "ab", "c1", "-c", "aa", "", "bca", None)
VALUE_WEIGHTS: Final = (5, 5, 4, 3, 2, 3, 1, 2, 4)

STREAM, TABLE, WINDOWED, GLOBAL, VERSIONED = "stream", "table", "windowed", "global", "versioned"
HEEDS_READERS: Final = frozenset({"table_lookup"})
"""Operations whose tables forward a deletion that the JVM forgets, where somebody has read the row
between two flushes (docs/differences.md)."""
FULL_CACHE_BYTES: Final = 10_485_760
FILLS_CACHE_OTHERWISE: Final = frozenset({"session", "sliding", "emit"})
"""Windows that are found without a scan of the cache, which in the JVM counts as a use of every row
it passes, and those whose index the JVM caches too: a full cache gives way in another order
(docs/differences.md)."""

UNCACHED, UNCACHED_WINDOWED = "uncached", "uncached windows"
"""Tables of aggregates without a cache: their first old value is the initial one in the JVM, which
nobody has heard of, and None here (docs/differences.md). So nothing is put below that looks."""


HEEDS_BOTH_SIDES: Final = frozenset({"table_join", "foreign_key_join"})
"""Operations that are right, and so differ from the JVM, where one record changes both sides, or
caches hold updates of both back (docs/differences.md)."""


class Grammar:
    """Makes the nodes of one plan.

    Args:
        random: decides.
        operations: the operations that may be used.
        is_cached: whether there is a record cache.
    """

    def __init__(self, random: Random, operations: frozenset[str], *, is_cached: bool) -> None:
        self._is_cached = is_cached
        self.emits_on_close = False
        self._random = random
        self._operations = operations
        self.nodes: list[dict[str, Any]] = []
        self._types: list[str] = []
        self._stores = 0
        self.store_names: list[str] = []
        self._roots: list[set[str]] = []

    def fill(self, size: int) -> None:
        """Makes sources, `size` operations, and a sink below each that nothing follows."""
        random = self._random
        for topic in TOPICS[: random.randint(1, 3)]:
            self._add_source(topic)
        while STREAM not in self._types and TABLE not in self._types:
            self._add_source("d")
        for _ in range(size):
            self._add_operation()
        self._end()

    def _add(self, type_: str, op: str, of: tuple[int, ...] = (), **options: Any) -> None:
        node: dict[str, Any] = {"op": op}
        if of:
            node["of"] = list(of)
        node.update({name: value for name, value in options.items() if value is not None})
        self.nodes.append(node)
        self._types.append(type_)
        self._roots.append({options["topic"]} if not of else set().union(*map(self._roots_of, of)))

    def _roots_of(self, at: int) -> set[str]:
        return self._roots[at]

    def _add_source(self, topic: str) -> None:
        kind = self._random.choices(
            ("stream", "table", "global_table"),
            (5, 4, 1 if "global_table" in self._operations else 0),
        )[0]
        if kind == "stream":
            self._add(STREAM, "stream", topic=topic)
        elif kind == "table":
            if "versioned" in self._operations and self._random.random() < 0.2:
                store = {"name": self._new_store()}
                history = self._random.choice((5, 20, 1000))
                self._add(VERSIONED, "table", topic=topic, store=store, history_ms=history)
            else:
                self._add(TABLE, "table", topic=topic, store=self._store())
        else:
            self._add(GLOBAL, "global_table", topic=topic, store={"name": self._new_store()})

    def _add_operation(self) -> None:
        random = self._random
        makers = [maker for name, maker in self._makers().items() if name in self._operations]
        for _ in range(20):
            if random.choice(makers)():
                return

    def _makers(self) -> dict[str, Callable[[], bool]]:
        return {
            "filter": lambda: self._one(STREAM, STREAM, "filter", fn=self._predicate()),
            "map_values": lambda: self._one(STREAM, STREAM, "map_values", fn=self._value()),
            "select_key": lambda: self._one(STREAM, STREAM, "select_key", fn=self._key()),
            "flat_map": lambda: self._one(STREAM, STREAM, "flat_map"),
            "flat_map_values": lambda: self._one(STREAM, STREAM, "flat_map_values"),
            "merge": lambda: self._two(STREAM, STREAM, STREAM, "merge"),
            "repartition": lambda: self._one(STREAM, STREAM, "repartition"),
            "to_table": lambda: self._one(STREAM, TABLE, "to_table", store=self._store()),
            "aggregate": self._aggregate,
            "windowed": self._windowed,
            "cogroup": self._cogroup,
            "stream_join": self._stream_join,
            "table_lookup": self._table_lookup,
            "global_lookup": lambda: self._two(
                STREAM, GLOBAL, STREAM, "global_lookup", kind=self._kind(), by=self._key()
            ),
            "table_filter": lambda: self._table("table_filter", fn=self._predicate()),
            "table_map_values": lambda: self._table("table_map_values", fn=self._value()),
            "windowed_map_values": lambda: self._one(WINDOWED, WINDOWED, "windowed_map_values"),
            "table_group": lambda: self._one(
                self._any_table(),
                TABLE,
                "table_group",
                by=self._key(),
                kind=self._random.choice(("count", "reduce", "aggregate")),
                store=self._store(),
            ),
            "table_join": lambda: self._two(
                self._any_table(),
                self._any_table(),
                TABLE,
                "table_join",
                kind=self._random.choice(("inner", "left", "outer")),
                fn=self._random.choice(("joined", "joined", "or_null")),
                store=self._store(),
            ),
            "foreign_key_join": lambda: self._two(
                self._any_table(),
                self._any_table(),
                TABLE,
                "foreign_key_join",
                kind=self._kind(),
                store=self._store(),
            ),
            "suppress": self._suppress,
            "to_stream": lambda: self._one(
                self._random.choice((self._any_table(), UNCACHED)), STREAM, "to_stream"
            ),
            "windowed_to_stream": lambda: self._one(
                self._random.choice((WINDOWED, UNCACHED_WINDOWED)), STREAM, "windowed_to_stream"
            ),
        }

    # -- operations ----------------------------------------------------------------------

    def _pick(self, type_: str) -> int | None:
        found = [at for at, each in enumerate(self._types) if each == type_]
        if not found:
            return None
        # Mostly the newest, so that chains grow.
        return found[-1] if self._random.random() < 0.5 else self._random.choice(found)

    def _one(self, takes: str, gives: str, op: str, **options: Any) -> bool:
        above = self._pick(takes)
        if above is None:
            return False
        self._add(gives, op, (above,), **options)
        return True

    def _two(self, first: str, second: str, gives: str, op: str, **options: Any) -> bool:
        left, right = self._pick(first), self._pick(second)
        if left is None or right is None:
            return False
        if op in HEEDS_BOTH_SIDES and self._roots[left] & self._roots[right]:
            return False
        self._add(gives, op, (left, right), **options)
        return True

    def _table(self, op: str, **options: Any) -> bool:
        store = self._store()
        takes = self._any_table()
        gives = takes if store is None else TABLE
        return self._one(takes, gives, op, store=store, **options)

    def _any_table(self) -> str:
        return VERSIONED if VERSIONED in self._types and self._random.random() < 0.5 else TABLE

    def _aggregate(self) -> bool:
        kind = self._random.choice(("count", "reduce", "aggregate", "aggregate_or_drop"))
        store = self._store()
        gives = TABLE if kind == "reduce" else self._aggregated(store)
        return self._one(STREAM, gives, "aggregate", kind=kind, by=self._by(), store=store)

    def _aggregated(
        self, store: dict[str, Any] | None, cached: str = TABLE, uncached: str = UNCACHED
    ) -> str:
        is_cached = self._is_cached and (store or {}).get("caching", True)
        return cached if is_cached else uncached

    def _windowed(self) -> bool:
        random = self._random
        kinds = [k for k in ("time", "session", "sliding") if k in self._operations]
        windows = self._windows(random.choice(kinds))
        emit = "close" if "emit" in self._operations and random.random() < 0.3 else None
        self.emits_on_close = self.emits_on_close or emit is not None
        kind = random.choice(("count", "reduce", "aggregate"))
        store = self._store()
        is_whole = kind == "reduce" or windows["kind"] == "session"
        gives = WINDOWED if is_whole else self._aggregated(store, WINDOWED, UNCACHED_WINDOWED)
        return self._one(
            STREAM,
            gives,
            "aggregate",
            kind=kind,
            by=self._by(),
            windows=windows,
            emit=emit,
            store=store,
        )

    def _cogroup(self) -> bool:
        random = self._random
        streams = [self._pick(STREAM) for _ in range(random.randint(1, 3))]
        if None in streams or len(set(streams)) < len(streams):
            return False
        kinds = ["none", *(k for k in ("time", "session", "sliding") if k in self._operations)]
        kind = random.choice(kinds)
        windows = None if kind == "none" else self._windows(kind)
        store = self._store()
        self._add(
            self._aggregated(store)
            if windows is None
            else self._aggregated(store, WINDOWED, UNCACHED_WINDOWED),
            "cogroup",
            tuple(each for each in streams if each is not None),
            by=self._by(),
            windows=windows,
            store=store,
        )
        return True

    def _stream_join(self) -> bool:
        random = self._random
        return self._two(
            STREAM,
            STREAM,
            STREAM,
            "stream_join",
            kind=random.choice(("inner", "left", "outer")),
            before=random.choice((0, 3, 10)),
            after=random.choice((0, 3, 10)),
            grace=random.choice((0, 2, 20)),
        )

    def _table_lookup(self) -> bool:
        grace, takes = None, self._any_table()
        if takes == VERSIONED and "grace" in self._operations and self._random.random() < 0.5:
            grace = self._random.choice((0, 2, 5))
        return self._two(STREAM, takes, STREAM, "table_lookup", kind=self._kind(), grace=grace)

    def _suppress(self) -> bool:
        random = self._random
        if WINDOWED in self._types and random.random() < 0.6:
            return self._one(WINDOWED, WINDOWED, "suppress", until="closed")
        buffers: tuple[dict[str, int], ...] = ({}, {"max_records": 2}, {"max_bytes": 150})
        limit = random.choice((0, 3, 10))
        return (
            self._one(
                random.choice((TABLE, WINDOWED)),
                TABLE,
                "suppress",
                until="limit",
                limit_ms=limit,
                **random.choice(buffers),
            )
            and self._retype()
        )

    def _retype(self) -> bool:
        """A buffer of windows gives windows."""
        self._types[-1] = self._types[self.nodes[-1]["of"][0]]
        return True

    # -- options -------------------------------------------------------------------------

    def _windows(self, kind: str) -> dict[str, Any]:
        random = self._random
        grace = random.choice((0, 2, 10))
        if kind == "session":
            return {"kind": kind, "gap": random.choice((1, 3, 8)), "grace": grace}
        size = random.choice((2, 5, 10))
        if kind == "sliding":
            return {"kind": kind, "size": size, "grace": grace}
        advance = random.choice((size, max(1, size // 2)))
        return {"kind": kind, "size": size, "advance": advance, "grace": grace}

    def _store(self) -> dict[str, Any] | None:
        random = self._random
        if random.random() < 0.4:
            return None
        store: dict[str, Any] = {}
        if random.random() < 0.7:
            store["name"] = self._new_store()
        if random.random() < 0.2:
            store["memory"] = True
        if random.random() < 0.2:
            store["caching"] = False
        if random.random() < 0.1:
            store["logging"] = False
        return store

    def _new_store(self) -> str:
        self._stores += 1
        self.store_names.append(f"s{self._stores}")
        return self.store_names[-1]

    def _by(self) -> str | None:
        return self._key() if self._random.random() < 0.4 else None

    def _kind(self) -> str:
        return self._random.choice(("inner", "left"))

    def _predicate(self) -> str:
        return self._random.choices(
            ("present", "even", "has_a", "not_k1", "nothing"), (4, 4, 4, 4, 1)
        )[0]

    def _value(self) -> str:
        return self._random.choice(("bang", "keyed", "null_if_b", "first"))

    def _key(self) -> str:
        return self._random.choice(("same", "initial", "length", "value", "dropped"))

    # -- ends ----------------------------------------------------------------------------

    def _end(self) -> None:
        """Puts a sink below what nothing follows."""
        followed = {above for node in self.nodes for above in node.get("of", ())}
        for at in range(len(self.nodes)):
            if at in followed or self._types[at] == GLOBAL:
                continue
            above = at
            if self._types[at] != STREAM:
                is_windowed = self._types[at] in (WINDOWED, UNCACHED_WINDOWED)
                op = "windowed_to_stream" if is_windowed else "to_stream"
                self._add(STREAM, op, (at,))
                above = len(self.nodes) - 1
            self._add("end", "to", (above,), topic=f"out{at}")


def plan_of(seed: int, operations: frozenset[str] | None = None) -> dict[str, Any]:
    """Makes the plan of a seed.

    Args:
        seed: decides everything.
        operations: the operations that may be used; all that `plan.MAKERS` has if not given.
    """
    random = Random(seed)
    cache_bytes = random.choice((0, 300, 1000, FULL_CACHE_BYTES))
    commit = random.choice(("every-record", "manual"))
    usable = OPERATIONS if operations is None else operations
    if cache_bytes:
        usable -= HEEDS_BOTH_SIDES
        if commit == "manual":
            usable -= HEEDS_READERS
        if cache_bytes < FULL_CACHE_BYTES:
            usable -= FILLS_CACHE_OTHERWISE
    grammar = Grammar(random, usable, is_cached=cache_bytes > 0)
    grammar.fill(random.randint(1, 6))
    topics = [n["topic"] for n in grammar.nodes if n["op"] in ("stream", "table", "global_table")]
    config = {"statestore.cache.max.bytes": str(cache_bytes)}
    if random.random() < 0.3:
        config["topology.optimization"] = "all"
    return {
        "seed": seed,
        "config": config,
        "commit": commit,
        "nodes": grammar.nodes,
        "stores": grammar.store_names,
        "steps": steps_of(random, topics, may_jump=not grammar.emits_on_close),
    }


def steps_of(random: Random, topics: list[str], *, may_jump: bool) -> list[dict[str, Any]]:
    """Makes the input of a plan.

    Args:
        random: decides.
        topics: the topics that are read.
        may_jump: whether time may jump beyond what a store keeps. With results on window close the
            JVM then loses those of windows that are gone from the store (docs/differences.md).
    """
    steps: list[dict[str, Any]] = []
    now = random.choice((0, 5, 100))
    for _ in range(random.randint(5, 40)):
        if random.random() < 0.12:
            steps.append({"commit": True})
            continue
        now += random.choice((0, 0, 1, 1, 2, 3, 7))
        if random.random() < 0.02:
            now += random.choice((50, 1000, 100_000 if may_jump else 2000))
        time = max(0, now - random.choice((0, 0, 0, 0, 1, 3, 9, 25)))
        step: dict[str, Any] = {
            "topic": random.choice(topics),
            "key": hexed(random.choices(KEYS, KEY_WEIGHTS)[0]),
            "value": hexed(random.choices(VALUES, VALUE_WEIGHTS)[0]),
            "timestamp": time,
        }
        if random.random() < 0.1:
            step["headers"] = [["h", hexed(random.choice(("x", "y", None)))]]
        steps.append(step)
    steps.append({"commit": True})
    return steps


def hexed(text: str | None) -> str | None:
    """Returns the bytes of a text in hex."""
    return None if text is None else text.encode().hex()


OPERATIONS: Final = frozenset(MAKERS) | {
    "windowed",
    "time",
    "session",
    "sliding",
    "emit",
    "versioned",
    "grace",
}
"""What the library can do now: the operations, and kinds of windows by name."""
