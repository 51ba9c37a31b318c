"""The documents hold what they say: Python blocks run, commands and links exist.

The ```python blocks of a file are run in order, as one module, in an empty directory. A block
that cannot run there is only compiled, if the line above it says why:

    <!-- not run: needs a broker -->
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.docs.documents import (
    DOCUMENTS,
    ROOT,
    RUN_THALWEG,
    Block,
    blocks,
    commands,
    name,
    prose,
)
from thalweg.streams.app import App

LINKED = [*DOCUMENTS, ROOT / "CHANGELOG.md"]

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_TARGET = re.compile(r"^(\w+):", re.MULTILINE)
_OPTION = re.compile(r"--[a-z][a-z-]*")

# Commands a reader is sure to have, or is told elsewhere to install.
_OTHERS = {
    "cat",
    "cd",
    "curl",
    "docker",
    "echo",
    "export",
    "git",
    "kill",
    "pip",
    "printf",
    "rm",
    "source",
}


def in_project(words: list[str]) -> list[str]:
    """Returns the arguments that look like files of the project."""
    return [
        word
        for word in words
        if re.fullmatch(r"(?:examples|bench|compose|docs|tests)/[\w./-]+", word)
    ]


def complaint(words: list[str]) -> str | None:
    """Says what is wrong with a command, None if nothing is."""
    program, *arguments = words
    missing = [word for word in in_project(words) if not (ROOT / word).exists()]
    if missing:
        return f"no such file: {', '.join(missing)}"
    if program == "make":
        targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
        unknown = [word for word in arguments if "=" not in word and word not in targets]
        return f"the Makefile has no {', '.join(unknown)}" if unknown else None
    if program.endswith("thalweg"):
        return complaint_of_thalweg(arguments)
    if words[:2] == ["docker", "compose"]:
        return complaint_of_compose(words[2:])
    if Path(program).name.startswith("python") or program in _OTHERS:
        return None
    return f"{program} is not a command that readers have"


def complaint_of_compose(arguments: list[str]) -> str | None:
    """Says what `compose/` has not, or what is wrong with the command run in a service."""
    services = yaml.safe_load((ROOT / "compose" / "docker-compose.yml").read_text())["services"]
    profiles = {profile for one in services.values() for profile in one.get("profiles", ())}
    words = iter(arguments)
    named = []
    for word in words:
        if word == "--profile":
            profile = next(words)
            if profile not in profiles:
                return f"compose has no profile {profile}"
        elif not word.startswith("-"):
            named.append(word)
            if len(named) > 1 and word not in services:
                return f"compose has no service {word}"
            if named[0] == "exec" and len(named) > 1:
                return complaint(list(words))
    return None


def complaint_of_thalweg(arguments: list[str]) -> str | None:
    """Says which command or option the command line does not know, None if it knows all."""
    command = "".join(word for word in arguments[:1] if not word.startswith("-"))
    asked = help_of_thalweg(command)
    if asked.returncode != 0:
        return f"there is no thalweg {command}: {asked.stderr.strip()[-200:]}"
    known = set(_OPTION.findall(asked.stdout))
    used = [option[0] for word in arguments if (option := _OPTION.match(word)) is not None]
    unknown = [option for option in used if option not in known]
    return f"thalweg {command} has no {', '.join(unknown)}" if unknown else None


@cache
def help_of_thalweg(command: str) -> subprocess.CompletedProcess[str]:
    """Asks the command line for the help of a command, "" for its own."""
    return subprocess.run(
        [sys.executable, "-c", RUN_THALWEG, *filter(None, [command]), "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_python_blocks_run_in_order(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in os.environ:
        if variable.startswith("THALWEG_"):
            monkeypatch.delenv(variable)
    # A module of its own: msgspec and pickle look a class up where it says it lives.
    module = ModuleType(f"snippets_of_{path.stem.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    try:
        for block in blocks(path):
            if block.language == "python":
                # Blank lines in front, so that a traceback names the document's own line.
                code = compile("\n" * (block.line - 1) + block.text, name(path), "exec")
                if block.is_run:
                    exec(code, module.__dict__)
    finally:
        # One that is left running by a block that failed would keep the process alive.
        for value in vars(module).values():
            if isinstance(value, App):
                value.close()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_exist(path: Path) -> None:
    complaints = [
        f"{name(path)}:{line}: {' '.join(words)}: {wrong}"
        for line, words in commands(path)
        if (wrong := complaint(words)) is not None
    ]
    assert complaints == []


@pytest.mark.parametrize("path", LINKED, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for target in _LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        # The rendered pages are docs/ alone: a link out of it would lead nowhere there.
        docs = ROOT / "docs"
        is_inside = docs not in path.parents or found.is_relative_to(docs)
        if not is_inside or not found.exists() or (anchor and anchor not in anchors(found)):
            dead.append(target)
    assert dead == []


def test_every_page_has_a_place_in_the_navigation() -> None:
    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(below)

    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    docs = ROOT / "docs"
    assert sorted(pages(navigation)) == sorted(
        path.relative_to(docs).as_posix() for path in docs.rglob("*.md")
    )


def anchors(path: Path) -> set[str]:
    """Returns the anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_wrong_command_is_found(tmp_path: Path) -> None:
    assert complaint(["make", "no-such-target"]) is not None
    assert complaint(["python", "examples/no_such_example.py"]) is not None
    assert complaint(["frobnicate"]) is not None
    assert complaint(["make", "test", "ARGS=-x"]) is None
    in_worker = ["docker", "compose", "exec", "--no-TTY", "worker-1", "thalweg"]
    assert complaint([*in_worker, "status", "--json"]) is None
    assert complaint([*in_worker, "status", "--jsn"]) is not None
    assert complaint(["docker", "compose", "--profile", "demo", "up", "--build"]) is None
    assert complaint(["docker", "compose", "--profile", "dmo", "up"]) is not None
    assert complaint(["docker", "compose", "kill", "worker-9"]) is not None


def test_blocks_tell_line_language_and_mark(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(
        "Text\n\n```python\na = 1\n```\n\n<!-- not run: needs a broker -->\n\n"
        '```python title="b.py"\nb\n```\n'
        "\n```console\n$ A=1 make test && \\\n  cd x  # why\nprinted\n```\n"
    )

    first, second, _ = blocks(document)
    assert first == Block("python", "a = 1\n", 4)
    assert second == Block("python", "b\n", 10, "not run: needs a broker", "b.py")
    assert (first.is_run, second.is_run) == (True, False)
    assert [words for _, words in commands(document)] == [["make", "test"], ["cd", "x"]]
