"""The documents of the project as data: their blocks, and what they tell a reader to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "compose" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
]

RUN_THALWEG = "import sys; sys.argv[0] = 'thalweg'; from thalweg.streams.cli import main; main()"
"""The command line as Python code, wherever the distribution is installed."""

_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"<!-- ([^\n]+) -->\n+\Z")
_TITLE = re.compile(r'title="([\w.]+)"')
_STEPS = re.compile(r"\s(?:\|\||&&|\||;)\s")


class Block(NamedTuple):
    """A fenced block of a document.

    Attributes:
        language: as it is named behind the fence.
        text: what stands in it.
        line: where its text begins.
        note: the comment right above it, "" if there is none.
        title: the name of the file it shows, "" if it shows none.
    """

    language: str
    text: str
    line: int
    note: str = ""
    title: str = ""

    @property
    def is_run(self) -> bool:
        """Whether it can run where tests do."""
        return not self.note.startswith("not run:")


def blocks(path: Path) -> list[Block]:
    """Returns the fenced blocks of a document, in order."""
    document = path.read_text()
    found = []
    for match in _BLOCK.finditer(document):
        note = _NOTE.search(document, 0, match.start())
        title = _TITLE.search(match[2])
        found.append(
            Block(
                language=match[1],
                text=match[3],
                line=document.count("\n", 0, match.start(3)) + 1,
                note="" if note is None else note[1],
                title="" if title is None else title[1],
            )
        )
    return found


def prose(path: Path) -> str:
    """Returns a document without its blocks."""
    return _BLOCK.sub("", path.read_text())


def commands(path: Path) -> list[tuple[int, list[str]]]:
    """Returns (line, words) of what a document's ```console blocks type after `$ `."""
    found = []
    for block in blocks(path):
        if block.language == "console":
            text = block.text.replace("\\\n", "  ")
            for number, line in enumerate(text.splitlines(), block.line):
                if line.startswith("$ "):
                    for step in _STEPS.split(line[2:]):
                        words = shlex.split(step, comments=True)
                        while words and re.match(r"[A-Z_]+=", words[0]):
                            del words[0]
                        if words:
                            found.append((number, words))
    return found


def table_below(path: Path, note: str) -> list[list[str]]:
    """Returns the cells of the rows of the table that follows a comment, without its head."""
    document = path.read_text()
    _, found, rest = document.partition(f"<!-- {note} -->")
    assert found, f"{name(path)} has no table noted {note!r}"
    lines = rest.strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def name(path: Path) -> str:
    """Returns a document's name within the project."""
    return path.relative_to(ROOT).as_posix()
