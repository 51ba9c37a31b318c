"""Dropped records: counted by reason, and logged once a minute with a sample.

Owns the reasons, the counts of one worker and the lines of its log. Dropping a record costs two
additions. A line is written after a batch, and only the first record since the last line is
examined. It must not know who drops, nor the clock: `now_ms` is an argument.

    first drop ──► told ──► counted for a minute ──► told, with how many there were ──► …
                                                     the rest is told at the end

Source: JVM `TaskMetrics.droppedRecordsSensor`, whose callers log each record.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, get_args

from thalweg.stores.record import CurrentRecord

DropReason: TypeAlias = Literal[
    "late",
    "expired",
    "null-key",
    "null-value",
    "null-group-key",
    "null-foreign-key",
    "stale-response",
    "out-of-order",
    "unreadable",
    "failed",
    "unwritable",
    "invalid-timestamp",
    "no-partition",
]

REASONS: Final[tuple[DropReason, ...]] = get_args(DropReason)

UNCOUNTED_BY_JVM: Final[DropReason] = "null-group-key"
"""The JVM's count leaves out what a grouping leaves out."""

EVERY_MS: Final = 60_000
"""How often a line is written of one reason at one node."""

_KEY_CHARS_MAX: Final = 100

_WORDS: Final[dict[DropReason, str]] = {
    "late": "that came too late for a window",
    "expired": "that the store's retention has passed",
    "null-key": "without a key",
    "null-value": "without a value",
    "null-group-key": "whose group key is None",
    "null-foreign-key": "whose foreign key is None",
    "stale-response": "for an older version of the left row",
    "out-of-order": "of an older version of a row",
    "unreadable": "that cannot be decoded",
    "failed": "that failed",
    "unwritable": "that cannot be encoded",
    "invalid-timestamp": "with a negative timestamp",
    "no-partition": "for which the partitioner chose no partition",
}
_TOLD_BY_HANDLERS: Final = frozenset[DropReason](("failed", "unwritable"))

_log = logging.getLogger(__name__)


class DropSite:
    """One reason at one node, in all tasks of a worker. Made by `Drops.site`.

    Attributes:
        count: records since the last line; whoever drops adds to it.
        sample: the first of them in words, None while there is none.
    """

    __slots__ = ("count", "due_ms", "node", "reason", "sample", "told_total")

    def __init__(self, node: str, reason: DropReason) -> None:
        self.node = node
        self.reason: DropReason = reason
        self.count = 0
        self.sample: str | None = None
        self.told_total = 0
        self.due_ms: int | None = None

    def is_due(self, now_ms: int) -> bool:
        """Tells whether to write a line; a clock that was set back does not keep it waiting."""
        due_ms = self.due_ms
        return due_ms is None or not due_ms - EVERY_MS <= now_ms < due_ms


class Drops:
    """What the tasks of one worker left out. Its totals may be read by any thread."""

    def __init__(self) -> None:
        self._sites: dict[tuple[str, DropReason], DropSite] = {}
        self.is_untold = False

    def site(self, node: str, reason: DropReason) -> DropSite:
        """Returns where records are counted that a node leaves out for one reason."""
        site = self._sites.get((node, reason))
        if site is None:
            site = self._sites[node, reason] = DropSite(node, reason)
        return site

    def keep_sample(
        self, site: DropSite, task_id: str, current: CurrentRecord, told: Iterable[str]
    ) -> None:
        """Keeps the current record as the sample of a site; it is counted elsewhere.

        Args:
            site: where it is left out.
            task_id: in which task.
            current: tells where the record came from.
            told: what else to tell of it.
        """
        place = "a punctuation"
        if current.topic is not None:
            place = f"{current.topic}-{current.partition} offset {current.offset()}"
        site.sample = ", ".join((place, *told, f"task {task_id}"))
        self.is_untold = True

    def totals(self) -> Counter[DropReason]:
        """Returns reason -> records left out so far, of those that occurred."""
        totals: Counter[DropReason] = Counter()
        for site in list(self._sites.values()):
            if site.told_total or site.count:
                totals[site.reason] += site.told_total + site.count
        return totals

    def tell(self, now_ms: int | None) -> None:
        """Writes the lines that are due, all of them where `now_ms` is None: at the end."""
        self.is_untold = False
        for site in self._sites.values():
            if site.sample is None:
                continue
            if now_ms is not None and not site.is_due(now_ms):
                self.is_untold = True
                continue
            if site.reason not in _TOLD_BY_HANDLERS:
                _write(site)
            site.told_total += site.count
            site.count, site.sample = 0, None
            site.due_ms = None if now_ms is None else now_ms + EVERY_MS


def _write(site: DropSite) -> None:
    records = "1 record" if site.count == 1 else f"{site.count:,} records"
    since = " since the last line" if site.told_total else ""
    more = "" if site.count == 1 else "the first: "
    _log.warning(
        "%s dropped %s %s%s (%s): %s%s",
        *(site.node, records, _WORDS[site.reason], since, site.reason, more, site.sample),
        extra={"fields": {"node": site.node, "reason": site.reason, "dropped_records": site.count}},
    )


def shown_key(key: object) -> str:
    """Returns a key as it is shown in a log, cut where it is long."""
    try:
        text = repr(key)
    except Exception:  # a user's own class
        text = f"a {type(key).__qualname__}"
    return text if len(text) <= _KEY_CHARS_MAX else f"{text[:_KEY_CHARS_MAX]}…"
