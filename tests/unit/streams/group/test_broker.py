"""What the errors of the group mean to the worker."""

from __future__ import annotations

import pytest

from thalweg.rebalance import errors as group
from thalweg.rebalance.errors import Code
from thalweg.stores.errors import Reaction
from thalweg.streams.errors import (
    AuthenticationError,
    BrokerError,
    GroupError,
    MissingTopicsError,
    StreamsError,
    TaskMigratedError,
    TopologyError,
    UnsupportedBrokerError,
)
from thalweg.streams.group.broker import translated


def refused(code: Code) -> group.RefusedError:
    return group.RefusedError("not now", code=code, topic="t", partition=3)


@pytest.mark.parametrize("code", [code for code in Code if code.is_retriable])
def test_a_refusal_that_passes_is_tried_again(code: Code) -> None:
    error = translated(refused(code))
    assert isinstance(error, BrokerError)
    assert (error.retriable, error.reaction) == (True, Reaction.RETRY)
    assert (error.topic, error.partition) == ("t", 3)


@pytest.mark.parametrize(
    "error",
    [
        group.UnreachableError("away"),
        refused(Code.COORDINATOR_LOAD_IN_PROGRESS),
        refused(Code.COORDINATOR_NOT_AVAILABLE),
        refused(Code.NOT_COORDINATOR),
        refused(Code.NOT_ENOUGH_REPLICAS),
    ],
    ids=str,
)
def test_a_coordinator_that_is_away_is_waited_for(error: group.RebalanceError) -> None:
    found = translated(error)
    assert isinstance(found, BrokerError)
    assert found.is_away


def test_a_transaction_that_does_not_end_is_not_waited_for_without_end() -> None:
    found = translated(refused(Code.UNSTABLE_OFFSET_COMMIT))
    assert isinstance(found, BrokerError)
    assert (found.retriable, found.is_away) == (True, False)


def test_a_member_that_does_not_hear_of_a_newer_epoch_goes_back_to_the_last_commit() -> None:
    assert translated(refused(Code.STALE_MEMBER_EPOCH)).reaction is Reaction.REJOIN


def let_in_before() -> group.AuthenticationError:
    """A broker that starts may refuse what it took before: that need not be wrong."""
    error = group.AuthenticationError("no")
    error.was_let_in = True
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(Code.GROUP_AUTHORIZATION_FAILED), GroupError),
        (refused(Code.OFFSET_METADATA_TOO_LARGE), GroupError),
        (group.TopologyRefusedError("no", code=Code.STREAMS_INVALID_TOPOLOGY), TopologyError),
        (group.MissingTopicsError("no"), MissingTopicsError),
        (group.UnsupportedBrokerError("no"), UnsupportedBrokerError),
        (group.AuthenticationError("no"), AuthenticationError),
        (let_in_before(), BrokerError),
        (group.RebalanceError("no"), GroupError),
    ],
)
def test_what_does_not_pass_stops_the_application(
    error: group.RebalanceError, expected: type[StreamsError]
) -> None:
    found = translated(error)
    assert type(found) is expected
    assert found.reaction is Reaction.STOP_APP
    assert error.message in str(found)


def test_others_are_tried_again_or_rejoin() -> None:
    assert translated(group.UnreachableError("away")).reaction is Reaction.RETRY
    lost = translated(group.MembershipLostError("fenced"))
    assert isinstance(lost, TaskMigratedError)
    assert lost.reaction is Reaction.REJOIN
