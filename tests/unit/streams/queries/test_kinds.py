"""A store kind says in one place what it can be asked, and one that says nothing is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from thalweg import FailureReason, KeyQuery, UnknownStoreError
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.kinds.key_value import KeyValueSpec
from thalweg.stores.serde import serdes
from thalweg.stores.testing.host import RecordingHost
from thalweg.streams.queries.answers import RefusedError
from thalweg.streams.queries.client import RunningStore, question_of
from thalweg.streams.queries.composite import Composite, Unwrap
from thalweg.streams.queries.kinds import known
from thalweg.streams.queries.kinds.kind import Faces, RowsAsked, StoreKind, Target
from thalweg.streams.queries.questions import Given, Parameters, Question, Shape
from thalweg.streams.queries.rows import Row, StoreRows
from thalweg.streams.queries.service import QueryService
from thalweg.streams.queries.state_query_service import StateQueryService
from thalweg.streams.tasks.queried import QueriedStore, Readiness
from thalweg.topology.physical import Topology


@dataclass(frozen=True, slots=True)
class BagSpec(KeyValueSpec):
    """A store kind of a user's own."""

    @property
    def kind(self) -> str:
        return "bag"


class CompositeBag(Composite[Any]):
    """Its face over tasks."""

    def has(self, key: str) -> bool:
        return self.first(lambda face: face.get(key)) is not None


class BagKind(StoreKind):
    """What it can be asked: whether it has something."""

    names = ("bag",)
    family = "bag"
    noun = "thing"
    forms_of_key = ("has",)
    needs_key = "{store!r} is a bag: give --key"
    queries: ClassVar[Mapping[type[Any], Any]] = {
        KeyQuery: lambda face, query, _unwrap: face.get(query.key) is not None,
    }

    def __init__(self) -> None:
        self.forms = {"has": self._has}

    def face(self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap) -> CompositeBag:
        return CompositeBag(builder.name, faces, unwrap)

    def target(self, asked: RowsAsked) -> Target:
        return Target("has", asked.key, (), is_one_row=True)

    def parts(self, row: Mapping[str, Any]) -> tuple[object, Sequence[int | None]]:
        return row["key"], ()

    def _has(
        self, builder: StoreBuilder, path: str, parameters: Parameters, key: str | None
    ) -> Question:
        given = Given(builder, path, parameters, ())
        asked = given.key("key", key)
        return given.question(
            lambda rows: rows.first(lambda face: Row(b"", asked, face.has(asked))),
            Shape.ROW,
            key=asked,
        )


BAG = StoreBuilder(
    name="things",
    spec=BagSpec(),
    backend="memory",
    key_serde=serdes.string,
    value_serde=serdes.string,
)


class Here:
    """A store of the kind in a task."""

    def __init__(self, directory: Path) -> None:
        topology = Topology()
        topology.stores["things"] = BAG
        self.store: Any = BAG.build(RecordingHost(directory))
        self.store.put("a", "x")
        self.service = QueryService(
            topology, serdes.bytes, serdes.bytes, lambda _name, _part: [self.store.read_only()]
        )

    def query(self, query: Any) -> Any:
        one = QueriedStore(0, Readiness.RUNNING, self.store, {}, {})
        return StateQueryService(lambda _name: [one], lambda _name: 1).answer(BAG, query)


@pytest.fixture
def bag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets bags be asked."""
    monkeypatch.setattr(known, "_KINDS", dict(known._KINDS))
    known.add_kind(BagKind())


@pytest.mark.usefixtures("bag")
def test_a_kind_of_a_users_own_is_asked_by_its_own_words(tmp_path: Path) -> None:
    here = Here(tmp_path)

    face: Any = here.service.store("things", family="bag")
    assert face.has("a")
    assert not face.has("b")
    with pytest.raises(TypeError, match='is a bag store: ask for it with kind="bag"'):
        here.service.store("things", family="window")
    question = question_of(BAG, Target("has", "a", ()))
    assert question.path == "/stores/things/keys/a/has"
    part = question.read(StoreRows(BAG, lambda _part: face, (None,)))
    assert msgspec.json.decode(part.rows[0].row) == {"key": "a", "value": True}
    assert known.may_follow_key("has")
    with pytest.raises(RefusedError, match="is a bag store; it answers /stores/things/has"):
        question_of(BAG, Target("windows", None, ()))
    assert here.query(KeyQuery("a")).only.value is True


def test_a_kind_that_says_nothing_is_refused_everywhere(tmp_path: Path) -> None:
    here = Here(tmp_path)

    with pytest.raises(TypeError, match="store 'things' is a bag store, which cannot be asked"):
        here.service.store("things")
    with pytest.raises(RefusedError, match="is a bag store; it cannot be asked") as refused:
        question_of(BAG, RunningStore.of(BAG).asked.target(RowsAsked()))
    assert refused.value.code == "wrong-kind"
    assert here.query(KeyQuery("a")).partitions[0].failure is FailureReason.UNKNOWN_QUERY_TYPE
    with pytest.raises(UnknownStoreError):
        here.service.store("nothing")
