"""Tables on standard output: drawn on a terminal, tabs between the columns elsewhere.

Owns the two forms. It must not know what the rows are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import typer

_BREAKS = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def is_terminal() -> bool:
    """Tells whether standard output goes to a terminal."""
    return sys.stdout.isatty()


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Writes a table with a header, and returns how many rows it has.

    On a terminal all rows are read before the first is drawn. Elsewhere a row is a line, with
    tabs and line breaks inside a cell written as in Python.

    Args:
        columns: their titles.
        rows: cells in the order of the columns.
    """
    if not is_terminal():
        typer.echo("\t".join(columns))
        count = 0
        for row in rows:
            typer.echo("\t".join(cell.translate(_BREAKS) for cell in row))
            count += 1
        return count
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if table.row_count:
        Console().print(table)
    return table.row_count
