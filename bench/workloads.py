"""The workloads: their input, their topology, the right answer.

Owns seeded input as lists of (key, value, timestamp) in bytes, the topologies in the public
DSL, and a reference result by plain Python, so that no figure is printed for wrong output.
The shapes are those of the race on a broker; sizes are arguments.
"""

from __future__ import annotations

import random
import string
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import accumulate

import msgspec

from thalweg import (
    JoinWindows,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Topology,
    Windowed,
    serdes,
    versioned_store,
)

Rows = Sequence[tuple[bytes | None, bytes, int]]

SEED = 20_260_101
BASE_MS = 1_700_000_000_000
WINDOW_MS = 10_000
GRACE_MS = 5_000
USERS = 20_000
FOREVER = 2**62


class Payment(msgspec.Struct, frozen=True):
    """An event of the JSON workloads."""

    id: int
    user: str
    amount: float
    ts: int = 0
    text: str = ""


class Taxed(msgspec.Struct, frozen=True):
    """A payment above the limit, with its tax."""

    id: int
    user: str
    amount: float
    text: str
    tax: float


class User(msgspec.Struct, frozen=True):
    """A row of the table."""

    country: str
    tier: int


class Enriched(msgspec.Struct, frozen=True):
    """A payment and what is known of its user."""

    id: int
    user: str
    amount: float
    country: str
    tier: int


@dataclass(frozen=True)
class Workload:
    """One workload of a certain size.

    Attributes:
        name: its name.
        inputs: topic -> records; all of a topic before the next one.
        build: makes the topology.
        check: raises when the output topic's rows are wrong.
        units: what is counted besides records, such as words.
        hands_on: whether it writes, as late as with a commit, what it has to read again.
    """

    name: str
    inputs: Mapping[str, Rows]
    build: Callable[[], Topology]
    check: Callable[[Rows], None]
    units: Mapping[str, int] = field(default_factory=dict)
    hands_on: bool = False

    @property
    def records(self) -> int:
        """Number of input records."""
        return sum(map(len, self.inputs.values()))


def last_values(rows: Rows) -> dict[bytes | None, bytes]:
    """Returns the last value of each key."""
    return {key: value for key, value, _ in rows}


def passthrough(records: int) -> Workload:
    """Bytes straight on."""
    rng = random.Random(SEED)
    filler = "".join(rng.choices(string.ascii_letters, k=4096)).encode()
    rows = [
        (
            b"k%05d" % rng.randrange(10_000),
            b"%010d" % n + filler[n % 4000 : n % 4000 + 90],
            BASE_MS + n,
        )
        for n in range(records)
    ]

    def build() -> Topology:
        builder = StreamsBuilder()
        stream = builder.stream("in", key_serde=serdes.bytes, value_serde=serdes.bytes)
        stream.to("out")
        return builder.build()

    def check(out: Rows) -> None:
        assert [row[:2] for row in out] == [row[:2] for row in rows]

    return Workload("passthrough", {"in": rows}, build, check)


def map_filter(records: int) -> Workload:
    """JSON: keep the large amounts, add the tax."""
    rng = random.Random(SEED)
    letters = "".join(rng.choices(string.ascii_lowercase + " ", k=4096))
    encode = msgspec.json.encode
    payments = [
        Payment(
            n,
            f"u{rng.randrange(50_000):05d}",
            rng.randrange(10_000) / 100,
            text=letters[n % 4000 : n % 4000 + 68],
        )
        for n in range(records)
    ]
    rows = [(p.user.encode(), encode(p), BASE_MS + p.id) for p in payments]

    def tax(p: Payment) -> Taxed:
        return Taxed(p.id, p.user, p.amount, p.text, p.amount * 0.2)

    def build() -> Topology:
        builder = StreamsBuilder()
        (
            builder.stream("in", key_serde=serdes.string, value_serde=serdes.json(Payment))
            .filter(lambda _key, payment: payment.amount >= 50.0)
            .map_values(tax)
            .to("out", key_serde=serdes.string, value_serde=serdes.json(Taxed))
        )
        return builder.build()

    def check(out: Rows) -> None:
        wanted = [(p.user.encode(), encode(tax(p))) for p in payments if p.amount >= 50.0]
        assert [row[:2] for row in out] == wanted

    return Workload("map_filter", {"in": rows}, build, check)


def word_count(records: int) -> Workload:
    """Lines of five to eleven words, 20,000 different ones, as often as in real text."""
    rng = random.Random(SEED)
    words: dict[str, None] = {}
    while len(words) < 20_000:
        words["".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 10)))] = None
    every, weights = list(words), list(accumulate(1 / rank for rank in range(1, 20_001)))
    counts: Counter[str] = Counter()
    rows = []
    for n in range(records):
        line = rng.choices(every, cum_weights=weights, k=rng.randint(5, 11))
        counts.update(line)
        rows.append((None, " ".join(line).encode(), BASE_MS + n))

    def build() -> Topology:
        builder = StreamsBuilder()
        (
            builder.stream("in", key_serde=serdes.bytes, value_serde=serdes.string)
            .flat_map_values(str.split)
            .group_by(lambda _key, word: word, key_serde=serdes.string, value_serde=serdes.string)
            .count(materialized=Materialized("counts", key_serde=serdes.string))
            .to_stream()
            .to("out", key_serde=serdes.string, value_serde=serdes.int64)
        )
        return builder.build()

    def check(out: Rows) -> None:
        found = {key.decode(): int.from_bytes(value) for key, value in last_values(out).items()}  # type: ignore[union-attr]
        assert found == counts

    return Workload("word_count", {"in": rows}, build, check, {"words": counts.total()})


def windowed_sum(records: int) -> Workload:
    """Sums of ten seconds of event time, up to two seconds out of order."""
    return _windowed_sum(records, is_final=False)


def suppress_windows(records: int) -> Workload:
    """The same sums, but only the last of each window, once it is closed."""
    return _windowed_sum(records, is_final=True)


def _windowed_sum(records: int, *, is_final: bool) -> Workload:
    rng = random.Random(SEED)
    encode = msgspec.json.encode
    payments = [
        Payment(
            n,
            f"user{rng.randrange(50_000):06d}",
            float(rng.randrange(10_000)),
            BASE_MS + n * 80_000 // records - rng.randrange(2_000),
        )
        for n in range(records)
    ]
    rows = [(p.user.encode(), encode(p), p.ts) for p in payments]
    sums: dict[tuple[str, int], float] = defaultdict(float)
    for p in payments:
        sums[p.user, p.ts - p.ts % WINDOW_MS] += p.amount

    def name_of(window: Windowed[str], total: float) -> tuple[str, float]:
        return f"{window.key}@{window.window.start_ms}", total

    def build() -> Topology:
        builder = StreamsBuilder()
        windows = TimeWindows.of_size(
            timedelta(milliseconds=WINDOW_MS), grace=timedelta(milliseconds=GRACE_MS)
        )
        totals = (
            builder.stream("in", key_serde=serdes.string, value_serde=serdes.json(Payment))
            .map_values(lambda payment: payment.amount)
            .group_by_key(key_serde=serdes.string, value_serde=serdes.float64)
            .windowed_by(windows)
            .reduce(
                lambda total, amount: total + amount,
                materialized=Materialized(
                    "sums", key_serde=serdes.string, value_serde=serdes.float64
                ),
            )
        )
        if is_final:
            totals = totals.suppress(Suppressed.until_window_closes())
        totals.to_stream().map(name_of).to(
            "out", key_serde=serdes.string, value_serde=serdes.float64
        )
        return builder.build()

    latest = max(p.ts for p in payments) - GRACE_MS - WINDOW_MS if is_final else FOREVER
    wanted = {
        f"{u}@{start}".encode(): total for (u, start), total in sums.items() if start <= latest
    }

    def check(out: Rows) -> None:
        decode = serdes.float64.deserializer("out")
        found = {key: decode(value) for key, value in last_values(out).items()}
        assert found == wanted
        assert not is_final or len(out) == len(wanted)

    name = "suppress_windows" if is_final else "windowed_sum"
    return Workload(name, {"in": rows}, build, check)


def _events(records: int) -> list[tuple[str, int]]:
    """Returns (user, time) of events, up to a second out of order."""
    rng = random.Random(SEED)
    return [
        (
            f"user{rng.randrange(USERS):06d}",
            BASE_MS + n * 80_000 // records - rng.randrange(1_000),
        )
        for n in range(records)
    ]


def _window_name(window: Windowed[str], _count: object) -> str:
    return f"{window.key}@{window.window.start_ms}-{window.window.end_ms}"


def _counted_windows(out: Rows) -> dict[str, int]:
    """Returns the last count of each window that is still there."""
    return {
        key.decode(): int.from_bytes(value)
        for key, value in last_values(out).items()
        if key is not None and value
    }


def session_count(records: int) -> Workload:
    """Events in each session of a user, up to a second out of order."""
    gap_ms = 2_000
    events = _events(records)
    rows = [(user.encode(), b"1", at) for user, at in events]
    times: dict[str, list[int]] = defaultdict(list)
    for user, at in events:
        times[user].append(at)
    counts: dict[str, int] = {}
    for user, of_user in times.items():
        of_user.sort()
        first = last = of_user[0]
        count = 0
        for at in [*of_user, FOREVER]:
            if at - last > gap_ms:
                counts[f"{user}@{first}-{last}"] = count
                first, count = at, 0
            last, count = at, count + 1

    def build() -> Topology:
        builder = StreamsBuilder()
        sessions = SessionWindows.of_inactivity_gap(gap_ms, grace=GRACE_MS)
        (
            builder.stream("in", key_serde=serdes.string, value_serde=serdes.bytes)
            .group_by_key()
            .windowed_by(sessions)
            .count("sessions")
            .to_stream(_window_name)
            .to("out", key_serde=serdes.string, value_serde=serdes.int64)
        )
        return builder.build()

    def check(out: Rows) -> None:
        assert _counted_windows(out) == counts

    return Workload("session_count", {"in": rows}, build, check)


def sliding_count(records: int) -> Workload:
    """Events of a user within two seconds, up to a second out of order."""
    difference_ms = 2_000
    events = _events(records)
    rows = [(user.encode(), b"1", at) for user, at in events]
    times: dict[str, list[int]] = defaultdict(list)
    for user, at in events:
        times[user].append(at)
    counts: dict[str, int] = {}
    for user, of_user in times.items():
        of_user.sort()
        for start in {at - difference_ms for at in of_user} | {at + 1 for at in of_user}:
            end = start + difference_ms
            count = bisect_right(of_user, end) - bisect_left(of_user, start)
            if count:
                counts[f"{user}@{start}-{end}"] = count

    def build() -> Topology:
        builder = StreamsBuilder()
        sliding = SlidingWindows.of_time_difference(difference_ms, grace=GRACE_MS)
        (
            builder.stream("in", key_serde=serdes.string, value_serde=serdes.bytes)
            .group_by_key()
            .windowed_by(sliding)
            .count("near")
            .to_stream(_window_name)
            .to("out", key_serde=serdes.string, value_serde=serdes.int64)
        )
        return builder.build()

    def check(out: Rows) -> None:
        assert _counted_windows(out) == counts

    return Workload("sliding_count", {"in": rows}, build, check)


def stream_table_join(records: int) -> Workload:
    """Payments enriched by their user; the table is there first."""
    rng = random.Random(SEED)
    encode = msgspec.json.encode
    users = {f"user{n:06d}": User(f"c{n % 200}", n % 5) for n in range(USERS)}
    table = [(key.encode(), encode(user), BASE_MS) for key, user in users.items()]
    payments = [
        Payment(n, f"user{rng.randrange(USERS):06d}", rng.randrange(10_000) / 100)
        for n in range(records)
    ]
    rows = [(p.user.encode(), encode(p), BASE_MS + 1 + p.id) for p in payments]

    def join(payment: Payment, user: User) -> Enriched:
        return Enriched(payment.id, payment.user, payment.amount, user.country, user.tier)

    def build() -> Topology:
        builder = StreamsBuilder()
        known = builder.table(
            "table", key_serde=serdes.string, value_serde=serdes.json(User), name="users"
        )
        (
            builder.stream("in", key_serde=serdes.string, value_serde=serdes.json(Payment))
            .join(known, join)
            .to("out", key_serde=serdes.string, value_serde=serdes.json(Enriched))
        )
        return builder.build()

    def check(out: Rows) -> None:
        wanted = [(p.user.encode(), encode(join(p, users[p.user]))) for p in payments]
        assert [row[:2] for row in out] == wanted

    return Workload("stream_table_join", {"table": table, "in": rows}, build, check)


def versioned_join(records: int) -> Workload:
    """Payments enriched by their user as he was then; each user has four versions."""
    rng = random.Random(SEED)
    encode = msgspec.json.encode
    span_ms = 600_000
    users = [f"user{n:06d}" for n in range(USERS)]
    versions = [User(f"c{n % 200}", n % 5) for n in range(4 * USERS)]
    valid_from = [BASE_MS + n * span_ms // len(versions) for n in range(len(versions))]
    table = [
        (users[n % USERS].encode(), encode(user), valid_from[n]) for n, user in enumerate(versions)
    ]
    payments = [
        Payment(
            n,
            users[rng.randrange(USERS)],
            rng.randrange(10_000) / 100,
            # The first comes when the whole table was read: a task goes by time.
            BASE_MS + span_ms - (rng.randrange(span_ms) if n else 0),
        )
        for n in range(records)
    ]
    rows = [(p.user.encode(), encode(p), p.ts) for p in payments]

    def join(payment: Payment, user: User) -> Enriched:
        return Enriched(payment.id, payment.user, payment.amount, user.country, user.tier)

    def build() -> Topology:
        builder = StreamsBuilder()
        known = builder.table(
            "table",
            key_serde=serdes.string,
            value_serde=serdes.json(User),
            materialized=Materialized(store=versioned_store("users", timedelta(hours=1))),
        )
        (
            builder.stream("in", key_serde=serdes.string, value_serde=serdes.json(Payment))
            .join(known, join)
            .to("out", key_serde=serdes.string, value_serde=serdes.json(Enriched))
        )
        return builder.build()

    def check(out: Rows) -> None:
        wanted = []
        for p in payments:
            of_user = range(int(p.user[4:]), len(versions), USERS)
            valid = [n for n in of_user if valid_from[n] <= p.ts]
            if valid:
                wanted.append((p.user.encode(), encode(join(p, versions[valid[-1]]))))
        assert [row[:2] for row in out] == wanted

    return Workload("versioned_join", {"table": table, "in": rows}, build, check)


def stream_stream_join(records: int) -> Workload:
    """Payments with logins of their user at most a second away; as many of each."""
    near_ms = 1_000
    logins = _events(records)
    encode = msgspec.json.encode
    rng = random.Random(SEED + 1)
    payments = [
        Payment(
            n,
            f"user{rng.randrange(USERS):06d}",
            rng.randrange(10_000) / 100,
            BASE_MS + n * 80_000 // records - rng.randrange(1_000),
        )
        for n in range(records)
    ]
    users = [User(f"c{n % 200}", n % 5) for n in range(records)]
    of_user: dict[str, list[tuple[int, User]]] = defaultdict(list)
    for (name, at), user in zip(logins, users, strict=True):
        of_user[name].append((at, user))

    def join(payment: Payment, user: User) -> Enriched:
        return Enriched(payment.id, payment.user, payment.amount, user.country, user.tier)

    def build() -> Topology:
        builder = StreamsBuilder()
        other = builder.stream("logins", key_serde=serdes.string, value_serde=serdes.json(User))
        (
            builder.stream("in", key_serde=serdes.string, value_serde=serdes.json(Payment))
            .join(other, join, JoinWindows.of_time_difference(near_ms, grace=60_000))
            .to("out", key_serde=serdes.string, value_serde=serdes.json(Enriched))
        )
        return builder.build()

    def check(out: Rows) -> None:
        wanted = Counter(
            (p.user.encode(), encode(join(p, user)))
            for p in payments
            for at, user in of_user[p.user]
            if abs(at - p.ts) <= near_ms
        )
        assert Counter((key, value) for key, value, _ in out) == wanted

    inputs = {
        "logins": [
            (name.encode(), encode(user), at)
            for (name, at), user in zip(logins, users, strict=True)
        ],
        "in": [(p.user.encode(), encode(p), p.ts) for p in payments],
    }
    return Workload("stream_stream_join", inputs, build, check)


def foreign_key_join(records: int) -> Workload:
    """Orders that change, with their users, who change once among them."""
    rng = random.Random(SEED)
    encode = msgspec.json.encode
    users = [User(f"c{n % 200}", n % 5) for n in range(2 * USERS)]
    table = [
        (
            f"user{n % USERS:06d}".encode(),
            encode(user),
            BASE_MS + max(0, n - USERS + 1) * 80_000 // USERS,
        )
        for n, user in enumerate(users)
    ]
    last: dict[bytes, Payment] = {}
    rows = []
    for n in range(records):
        order = b"order%06d" % rng.randrange(max(1, records // 4))
        at = BASE_MS + 1 + n * 80_000 // records
        payment = Payment(n, f"user{rng.randrange(USERS):06d}", rng.randrange(10_000) / 100, at)
        last[order] = payment
        rows.append((order, encode(payment), at))

    def join(payment: Payment, user: User) -> Enriched:
        return Enriched(payment.id, payment.user, payment.amount, user.country, user.tier)

    def build() -> Topology:
        builder = StreamsBuilder()
        known = builder.table("table", key_serde=serdes.string, value_serde=serdes.json(User))
        (
            builder.table("in", key_serde=serdes.string, value_serde=serdes.json(Payment))
            .join(known, join, foreign_key_extractor=lambda payment: payment.user)
            .to_stream()
            .to("out", key_serde=serdes.string, value_serde=serdes.json(Enriched))
        )
        return builder.build()

    def check(out: Rows) -> None:
        assert last_values(out) == {
            order: encode(join(p, users[USERS + int(p.user[4:])])) for order, p in last.items()
        }

    return Workload("foreign_key_join", {"table": table, "in": rows}, build, check, hands_on=True)


WORKLOADS: Mapping[str, tuple[Callable[[int], Workload], int]] = {
    "passthrough": (passthrough, 1_000_000),
    "map_filter": (map_filter, 500_000),
    "word_count": (word_count, 150_000),
    "windowed_sum": (windowed_sum, 300_000),
    "stream_table_join": (stream_table_join, 300_000),
    "session_count": (session_count, 300_000),
    "sliding_count": (sliding_count, 300_000),
    "suppress_windows": (suppress_windows, 300_000),
    "versioned_join": (versioned_join, 300_000),
    "stream_stream_join": (stream_stream_join, 200_000),
    "foreign_key_join": (foreign_key_join, 150_000),
}
"""Name -> (maker, records at scale 1)."""


def make(name: str, scale: float) -> Workload:
    """Makes a workload of a scaled size."""
    maker, records = WORKLOADS[name]
    return maker(max(1, int(records * scale)))
