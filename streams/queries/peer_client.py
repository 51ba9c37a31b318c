"""Asks another instance over HTTP for its part of an answer.

Owns what an answer and a failure mean. The other instance answers from its own rows only, so no
request is forwarded twice. An answer without the mark of this application is not used, whatever its
status and body are; otherwise the rows of that instance would count as missing. It must not know
who is asked, or why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from thalweg.rebalance.values import Endpoint
from thalweg.streams.queries.answers import (
    Part,
    RefusedError,
    decode_part,
    not_now,
    not_so,
)
from thalweg.streams.queries.peer import PeerError, Site, fetch
from thalweg.streams.queries.questions import Question, Scope

HOP_HEADER: Final = "Thalweg-Hop"
"""Marks a request of another instance, and the part it is answered with; its value is the
version of the parts' form."""

HOP_VERSION: Final = "1"


def ask(
    owner: Endpoint, question: Question, partitions: Sequence[int], application_id: str
) -> Part:
    """Asks an instance for its part. May wait; any thread may call it.

    Args:
        owner: where it answers.
        question: as it came.
        partitions: which partitions of the store to read there.
        application_id: the application whose instance must answer.

    Raises:
        RefusedError: the instance cannot be reached, is none of this application, or refused;
            says which and why.
    """
    query = urlencode(
        [
            *question.parameters,
            ("scope", Scope.LOCAL.value),
            ("partition", ",".join(map(str, partitions))),
        ]
    )
    facts = {"store": question.builder.name, "instance": str(owner)}
    try:
        page = fetch(
            Site.of(owner),
            f"{question.path}?{query}",
            {HOP_HEADER: HOP_VERSION},
            application_id=application_id,
        )
    except PeerError as error:
        if not error.is_answering:
            message = (
                f"the instance at {owner} has the row and cannot be reached: {error}; ask again"
            )
            raise not_now("owner-unreachable", message, **facts) from error
        message = (
            f"the member at {owner} has the row, but {error}; a member on the JVM can only be "
            "asked by its own server, and scope=local asks this instance alone"
        )
        raise not_so("owner-unreadable", message, **facts) from error
    if page.status != HTTPStatus.OK:
        raise _refusal(owner, page.status, page.body, facts)
    version = page.headers.get(HOP_HEADER)
    if version != HOP_VERSION:
        message = (
            f"the instance at {owner} gave an answer of another form ({HOP_HEADER} {version}, "
            f"not {HOP_VERSION}): run the same version of thalweg in all instances"
        )
        raise not_so("owner-unreadable", message, **facts)
    try:
        return decode_part(page.body)
    except ValueError as error:
        message = f"the instance at {owner} gave an answer that cannot be read: {error}"
        raise not_so("owner-unreadable", message, **facts) from error


def _refusal(owner: Endpoint, status: int, body: bytes, facts: Mapping[str, str]) -> RefusedError:
    """Returns what a refusal of the other instance means here: it is the one that was asked."""
    try:
        given: Any = msgspec.json.decode(body)
        code, detail = str(given["code"]), str(given["detail"])
    except (ValueError, LookupError, TypeError):
        code, detail = "owner-refused", f"HTTP status {status}"
    message = f"the instance at {owner}: {detail}"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, code, message, **facts)
    if status != HTTPStatus.SERVICE_UNAVAILABLE:
        # It read the question another way than this one did: another version, another topology.
        code = "owner-refused"
    return not_now(code, message, **facts)
