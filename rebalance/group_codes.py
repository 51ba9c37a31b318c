"""The status codes of a group that a coordinator adds to its answers.

Owns the codes and their text for people. It must not know what follows from them.

Source: JVM `StreamsGroupHeartbeatResponse.Status`; kip1071 reference 2.1.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple


class StatusCode(IntEnum):
    """What a coordinator says of the group, beside its answer."""

    STALE_TOPOLOGY = 0
    MISSING_SOURCE_TOPICS = 1
    INCORRECTLY_PARTITIONED_TOPICS = 2
    MISSING_INTERNAL_TOPICS = 3
    SHUTDOWN_APPLICATION = 4
    ASSIGNMENT_DELAYED = 5
    MISSING_CLIENT_TAGS = 6


_TEXTS: Final[Mapping[int, tuple[int, str]]] = {
    StatusCode.STALE_TOPOLOGY: (
        logging.WARNING,
        "this member's topology is older than the group's: restart it with the newer script",
    ),
    StatusCode.MISSING_SOURCE_TOPICS: (
        logging.WARNING,
        "source topics do not exist: create them",
    ),
    StatusCode.INCORRECTLY_PARTITIONED_TOPICS: (
        logging.ERROR,
        (
            "partition counts do not fit: joined topics need equal ones, and internal topics as many "
            "as the topics they follow from; if a topic has got more partitions, stop all instances "
            "and begin anew with `thalweg reset`, which deletes the internal topics"
        ),
    ),
    StatusCode.MISSING_INTERNAL_TOPICS: (
        logging.INFO,
        "the broker is creating the internal topics",
    ),
    StatusCode.SHUTDOWN_APPLICATION: (
        logging.WARNING,
        "a member asked all instances of the application to shut down",
    ),
    StatusCode.ASSIGNMENT_DELAYED: (
        logging.INFO,
        "the broker waits for more members before it assigns tasks",
    ),
    StatusCode.MISSING_CLIENT_TAGS: (
        logging.WARNING,
        "client tags are missing, so standby tasks cannot be spread over racks",
    ),
}

# The broker says so in the detail, while the code stays that of topics still to come.
_FAILURES: Final = "Creation failed: "
_UNAUTHORIZED: Final = "Unauthorized"

# Asked twice for the same topic, as at each first start, the broker fails at the second time.
_IS_THERE: Final = re.compile(
    r"[^\s,;(]+ \([^()]*already exist[^()]*\)|and \d+ more|[^,;()]*already exist[^,;()]*"
)


class Status(NamedTuple):
    """One status of the group.

    Attributes:
        code: its number; numbers not in `StatusCode` come from newer brokers.
        detail: the broker's own words.
    """

    code: int
    detail: str = ""

    @property
    def level(self) -> int:
        """How loudly to log it, a level of `logging`."""
        level, _ = _TEXTS.get(self.code, (logging.WARNING, ""))
        return logging.ERROR if self._is_failed_creation else level

    @property
    def _is_failed_creation(self) -> bool:
        if self.code != StatusCode.MISSING_INTERNAL_TOPICS:
            return False
        _, _, failures = self.detail.partition(_FAILURES)
        return _UNAUTHORIZED in self.detail or bool(_IS_THERE.sub("", failures).strip(" ,;."))

    def __str__(self) -> str:
        """Returns what it means and what the broker adds."""
        _, text = _TEXTS.get(
            self.code, (0, f"status {self.code}, which this version does not know")
        )
        if self._is_failed_creation:
            text = "the broker cannot create the internal topics"
        return f"{text} ({self.detail})" if self.detail else text
