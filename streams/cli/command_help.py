"""Commands and groups of commands as their help shows them.

Owns the corrections of the library's help, which shows a flag without a value as `<bool>`. It must
not know which commands there are.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns its parameters, those among them that the library adds."""
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns its parameters, those among them that the library adds."""
        return _without_types_of_flags(super().get_params(ctx))
