"""What queries know of a store kind: the contract of the files beside this one.

Owns the interface `StoreKind`: the composite face over tasks, the requests over HTTP with their
paths and parameters, how `thalweg query` asks them, and what its tables show. Each kind declares
all of this in one file. Code that routes, pages or prints asks the kind and has no branches. It
must not know any kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

from thalweg.stores.builders import StoreBuilder
from thalweg.streams.queries.answers import RefusedError
from thalweg.streams.queries.composite import Composite, Unwrap
from thalweg.streams.queries.questions import Parameters, Question
from thalweg.streams.queries.state_queries import Query

Answer: TypeAlias = Callable[[Any, Any, Unwrap], Any]
"""(face of one task, query, stored value -> plain value) -> what it answers."""

Faces: TypeAlias = Callable[[], Sequence[Any]]
"""Returns the read-only faces of one store, each of its kind, one per task that has it."""

MakeQuestion: TypeAlias = Callable[[StoreBuilder, str, Parameters, str | None], Question]
"""(store, path, parameters, key of the path) -> the question; raises RefusedError."""

NO_VERSIONS: Final[Mapping[str, str]] = {
    "as_of": "{store!r} keeps no versions: --as-of asks versioned stores"
}
"""What kinds without versions refuse."""

KEY: Final = "/key"
"""The form of a question for one key, `/stores/S/keys/KEY`; no word of a path is so."""

ROWS: Final = ""
"""The form of a question for rows: `/stores/S`."""


class RowsAsked(NamedTuple):
    """Which rows of a store are asked for, as text.

    Attributes:
        key: of one key.
        lower: the first key.
        upper: the last key, included.
        prefix: how keys begin.
        time_from: the first moment.
        time_to: the last moment, included.
        as_of: what was valid at this moment.
        reverse: highest keys, newest first.
    """

    key: str | None = None
    lower: str | None = None
    upper: str | None = None
    prefix: str | None = None
    time_from: str | None = None
    time_to: str | None = None
    as_of: str | None = None
    reverse: bool = False

    @property
    def has_times(self) -> bool:
        """Whether only some times are asked for."""
        return self.time_from is not None or self.time_to is not None


class Target(NamedTuple):
    """A question of `thalweg query`, as it is asked over HTTP.

    Attributes:
        form: the last word of its path; `KEY` and `ROWS` have none.
        key: the key in the path, None where there is none.
        parameters: of the question.
        is_one_row: whether the answer is a row, not a page of rows.
    """

    form: str
    key: str | None
    parameters: Parameters
    is_one_row: bool = False


class StoreKind(ABC):
    """A kind of stores, as it is asked."""

    names: ClassVar[Sequence[str]]
    """The kinds of stores it stands for, as `StoreBuilder.kind`."""

    family: ClassVar[str]
    """What these have in common, as `kind=` of `App.store` names it."""

    noun: ClassVar[str]
    """What a row is called, for messages: 'key', 'window of key'."""

    is_default: ClassVar[bool] = False
    """Whether `App.store` with types asks for it where no kind is named."""

    times: ClassVar[Sequence[str]] = ()
    """Titles of the columns of times in a table, between key and value."""

    forms: Mapping[str, MakeQuestion]
    """Form of a path -> how its question is made."""

    forms_of_key: ClassVar[Collection[str]] = ()
    """Those of its forms that may stand behind a key: `/stores/S/keys/KEY/FORM`."""

    queries: ClassVar[Mapping[type[Query[Any]], Answer]] = {}
    """Query of state -> how a task's face answers it; see `queries.state_queries`."""

    hints: ClassVar[Mapping[str, str]] = {}
    """Form of a path that other kinds answer -> what to ask in its place."""

    refused: ClassVar[Mapping[str, str]] = {}
    """Field of `RowsAsked` that makes no sense for the kind -> why, with {store!r}."""

    needs_key: ClassVar[str] = ""
    """Why rows are asked for by key only, with {store!r}; empty where they are not."""

    @abstractmethod
    def face(self, builder: StoreBuilder, faces: Faces, unwrap: Unwrap) -> Composite[Any]:
        """Returns the read-only face over all tasks."""

    @abstractmethod
    def target(self, asked: RowsAsked) -> Target:
        """Returns the question that asks for rows; those `refused` are not in it."""

    @abstractmethod
    def parts(self, row: Mapping[str, Any]) -> tuple[object, Sequence[int | None]]:
        """Returns the key of a row in JSON, and its times, as many as `times` has titles."""

    def gives_timestamps(self, builder: StoreBuilder) -> bool:
        """Tells whether values come with their event time beside them."""
        return builder.is_timestamped

    @property
    def asked_by(self) -> str:
        """How `App.store` is asked for it, for messages."""
        return f'kind="{self.family}"'

    def question(
        self, builder: StoreBuilder, form: str, path: str, parameters: Parameters, key: str | None
    ) -> Question:
        """Returns the question of a path.

        Args:
            builder: the store.
            form: the last word of the path.
            path: how it came.
            parameters: likewise.
            key: the key in the path, None where there is none.

        Raises:
            RefusedError: the kind does not answer it, or it cannot be understood.
        """
        make = self.forms.get(form)
        if make is None:
            raise self.no_such(builder, form)
        return make(builder, path, parameters, key)

    def has_path(self, word: str) -> bool:
        """Tells whether a word behind the store's name is one of a path, not a key."""
        return word in self.forms or word in self.hints

    def hint(self, form: str) -> str:
        """Returns what to ask in place of a question that other kinds answer."""
        return self.hints.get(form) or "it answers " + ", ".join(map(_path_of, self.forms))

    def no_such(self, builder: StoreBuilder, form: str) -> RefusedError:
        """Returns the refusal of a question that other kinds answer."""
        hint = self.hint(form).format(store=builder.name, key="{key}")
        detail = f"store {builder.name!r} is a {builder.kind} store; {hint}"
        return RefusedError(
            HTTPStatus.CONFLICT, "wrong-kind", detail, store=builder.name, kind=builder.kind
        )


def given_only(*parameters: tuple[str, str | None]) -> Parameters:
    """Returns the parameters that have a value."""
    return [(name, value) for name, value in parameters if value is not None]


def _path_of(form: str) -> str:
    if form in (KEY, ROWS):
        return "/stores/{store}" + ("/keys/{key}" if form == KEY else "")
    return f"/stores/{{store}}/{form}"
