"""An application that runs in another process, on an embedded log that it owns.

Owns how a command finds it, and the message if it does not run. What it can be asked is in
`streams.queries.client` and `streams.observe.status`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from thalweg.streams.queries.client import PageAnswers
from thalweg.streams.transport.log.directory import owner_of
from thalweg.streams.transport.through_owner import find_owner

if TYPE_CHECKING:
    from thalweg.streams.app import App
    from thalweg.streams.transport.log.owner_client import OwnerClient


PATIENCE: Final = timedelta(seconds=60)
"""How long to ask again a store that is being restored."""


class RunningApp:
    """An application in the process that owns its log.

    Args:
        app: the application as its script describes it; it is not started.
        owner: the owner of its log.
    """

    def __init__(self, app: App, owner: OwnerClient) -> None:
        self.owner = owner
        self._app = app

    @property
    def application_id(self) -> str:
        """The application's id."""
        return self._app.application_id

    def answers(self) -> PageAnswers:
        """Returns what answers questions to its stores."""

        def get(target: str) -> tuple[int, bytes]:
            status, body = self.owner.get(self.application_id, target)
            if not body.startswith(b"{"):
                raise self.owner.error_of(status, body)
            return status, body

        return PageAnswers(get, patience=PATIENCE)


def running(app: App) -> RunningApp | None:
    """Returns an application if another process runs it and answers for it, else None."""
    owner = find_owner(app.config.data_dir)
    if owner is None:
        return None
    about = owner_of(app.config.data_dir)
    if about is None or app.application_id not in about.applications:
        return None
    return RunningApp(app, owner)
