"""One hop: asking another instance for its part of an answer, over HTTP.

Owns the connection, its time-out and what a failure means. An instance that is asked this way
answers from its own rows only, so there is never a second hop. It must not know who is asked,
or why.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from rebalance.member import Endpoint
from streams.queries.answers import Part, RefusedError, decode_part, not_now
from streams.queries.requests import Question, Scope

HOP_HEADER: Final = "Thalweg-Hop"
"""Marks a request of another instance; its value is the version of the parts' form."""

HOP_VERSION: Final = "1"

HOP_SECONDS: Final = 5.0
"""How long another instance may take: longer than any page, shorter than people's patience."""


def ask(owner: Endpoint, question: Question, partitions: Sequence[int]) -> Part:
    """Asks an instance for its part. May wait; any thread may call it.

    Args:
        owner: where it answers.
        question: as it came.
        partitions: which partitions of the store to read there.

    Raises:
        RefusedError: the instance cannot be reached, or refused; says which and why.
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
        status, body = get(owner, f"{question.path}?{query}", {HOP_HEADER: HOP_VERSION})
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        message = f"the instance at {owner} has the row and cannot be reached: {reason}; ask again"
        raise not_now("owner-unreachable", message, **facts) from error
    if status == HTTPStatus.OK:
        try:
            return decode_part(body)
        except msgspec.MsgspecError as error:
            message = f"the instance at {owner} gave an answer that cannot be read: {error}"
            raise not_now("owner-unreadable", message, **facts) from error
    raise _refusal(owner, status, body, facts)


def get(
    endpoint: Endpoint, target: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Asks an instance for a page; returns HTTP status and body.

    Raises:
        OSError: it cannot be reached, or takes too long.
        http.client.HTTPException: what answers does not speak HTTP.
    """
    host = endpoint.host.removeprefix("[").removesuffix("]")
    connection = http.client.HTTPConnection(host, endpoint.port, timeout=HOP_SECONDS)
    try:
        connection.request("GET", target, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _refusal(owner: Endpoint, status: int, body: bytes, facts: Mapping[str, str]) -> RefusedError:
    """Returns what a refusal of the other instance means here: it is the one that was asked."""
    try:
        given: Any = msgspec.json.decode(body)
        code, detail = str(given["code"]), str(given["detail"])
    except (msgspec.MsgspecError, LookupError, TypeError):
        code, detail = "owner-refused", f"HTTP status {status}"
    message = f"the instance at {owner}: {detail}"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, code, message, **facts)
    if status != HTTPStatus.SERVICE_UNAVAILABLE:
        # It read the question another way than this one did: another version, another topology.
        code = "owner-refused"
    return not_now(code, message, **facts)
