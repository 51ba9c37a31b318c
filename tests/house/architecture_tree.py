"""Draws the tree of the four packages from the code, for docs/architecture.md.

    python -m tests.house.architecture_tree

writes it into the page; `test_house` fails where the page shows another one. A line is a module or
a folder, with the first sentence of its docstring up to the colon or the full stop.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
PAGE: Final = ROOT / "docs" / "architecture.md"
PACKAGES: Final = ("stores", "topology", "rebalance", "streams", "thalweg")
_COLUMN: Final = 30
_WIDTH: Final = 120
_BLOCK: Final = re.compile(r"(?<=```text\n)stores/.*?(?=```)", re.DOTALL)


def summary(path: Path) -> str:
    """Returns what the first sentence of a module's docstring says."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])[.;](?: |$)", first)[0]


def line(depth: int, name: str, told: str) -> str:
    """Returns one line of the tree, cut at a word where it is too long."""
    text = f"{'  ' * depth + name:<{_COLUMN}}{told}".rstrip()
    return text if len(text) <= _WIDTH else text[: _WIDTH - 2].rsplit(" ", 1)[0].rstrip(",:") + " …"


def drawn(folder: Path, depth: int = 0) -> list[str]:
    """Returns the lines of a folder: itself, its modules, then its folders."""
    lines = [line(depth, f"{folder.name}/", summary(folder / "__init__.py"))]
    modules = sorted(path for path in folder.glob("*.py") if not path.stem.startswith("__"))
    lines += [line(depth + 1, path.stem, summary(path)) for path in modules]
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.is_symlink() and (inner / "__init__.py").is_file():
            lines += drawn(inner, depth + 1)
    return lines


def tree() -> str:
    """Returns the whole tree, as the page shows it."""
    return "".join(f"{one}\n" for package in PACKAGES for one in drawn(ROOT / package))


def shown() -> str:
    """Returns the tree that the page shows now."""
    found = _BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None, "docs/architecture.md has no block that begins with stores/"
    return found[0]


def main() -> None:
    """Writes the tree into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(lambda _: tree(), page), encoding="utf-8")


if __name__ == "__main__":
    main()
