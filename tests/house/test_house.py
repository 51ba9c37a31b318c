"""The house's rules that no linter knows: what names, texts and files must and must not say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from thalweg.stores.errors import StreamsError

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("streams", "stores", "topology", "rebalance")

# Words that say nothing of what a module owns, so everything ends up in it.
NAMES_OF_DRAWERS = {
    "base",
    "common",
    "core",
    "helper",
    "helpers",
    "internals",
    "manager",
    "managers",
    "misc",
    "shared",
    "util",
    "utils",
}

# A longer file has more than one subject.
MOST_LINES = 700

# Files that are longer and are being taken apart (issue 12). Take off the list what is done; the
# list goes when it is empty. Nothing is added to it.
BEING_TAKEN_APART = {
    "stores/serde.py",
    "streams/tasks/task_manager.py",
}

# In pieces, so that this file does not hold what it looks for.
FOREIGN_TEXTS = (
    r"pypi\." + "org",
    r"python" + "hosted",
    r"crates\." + "io",
    r"registry\." + "npmjs",
    r"repo1?\." + "maven",
    r"(?:deb|security)\." + "debian",
    r"archive\." + "ubuntu",
    r"proxy\." + "golang",
    r"(?<![\w.~-])/(?:work|root|tmp|home|Users|opt/wheels)" + r"/\w",
)


def modules() -> list[Path]:
    """Returns every module of the four packages."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_name(path: Path) -> str:
    """Returns the dotted name of a module."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return f"thalweg.{name}"


def tracked_files() -> list[Path]:
    """Returns what git tracks and what stands in the tree now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Yields the public classes, functions and methods of a module that say nothing."""

    def look(nodes: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in nodes:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            if node.name.startswith("_") or decorators & {"overload", "override"}:
                continue
            if ast.get_docstring(node) is None:
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from look(node.body, f"{prefix}{node.name}.")

    yield from look(tree.body, "")


def pins(lock: str) -> dict[str, str]:
    """Reads a lock file: package name -> the version for this interpreter."""
    found = {}
    for line in (ROOT / "requirements" / lock).read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\"))
            if requirement.marker is None or requirement.marker.evaluate():
                (pin,) = requirement.specifier
                found[canonicalize_name(requirement.name)] = pin.version
    return found


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_every_module_says_what_it_owns(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module without a docstring"
    assert list(undocumented(tree)) == []


def test_no_module_is_named_after_a_drawer() -> None:
    files = [path for path in tracked_files() if path.suffix == ".py"]
    assert [path for path in files if path.stem in NAMES_OF_DRAWERS] == []


def test_no_module_is_longer_than_one_subject_needs() -> None:
    too_long = [
        f"{name}: {count} lines"
        for path in modules()
        if (count := len(path.read_text().splitlines())) > MOST_LINES
        and (name := path.relative_to(ROOT).as_posix()) not in BEING_TAKEN_APART
    ]
    assert too_long == [], f"take it apart: at most {MOST_LINES} lines"


def test_every_folder_of_modules_is_a_package() -> None:
    # Without __init__.py the import contracts see some imports and not others, by chance.
    folders = {path.parent for path in modules()}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_package_says_that_it_is_typed() -> None:
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").is_file()] == []


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    foreign = re.compile("|".join(FOREIGN_TEXTS))
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := foreign.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


def test_every_error_of_ours_has_the_one_root() -> None:
    strays = []
    for path in modules():
        if path.name == "__main__.py" or path.parts[len(ROOT.parts)] == "rebalance":
            continue  # the group member returns what went wrong, it raises nothing of this tree
        for _, found in inspect.getmembers(
            importlib.import_module(module_name(path)), inspect.isclass
        ):
            if (
                issubclass(found, Exception)
                and found.__module__.startswith("thalweg")
                and not found.__module__.startswith("thalweg.rebalance")
                and not found.__name__.startswith("_")
                and not issubclass(found, StreamsError)
            ):
                strays.append(f"{found.__module__}.{found.__name__}")
    assert strays == []


def test_asserts_are_on() -> None:
    assert __debug__, "invariants are asserts: never run with -O"


def test_the_public_names_of_streams_are_those_listed() -> None:
    listed = (Path(__file__).parent / "streams_public_names.txt").read_text().split()
    streams = importlib.import_module("thalweg")
    assert sorted(streams.__all__) == listed, (
        "a name became public or went: note it in CHANGELOG.md, then mend the list"
    )
    assert [name for name in listed if not hasattr(streams, name)] == []


@pytest.mark.parametrize(
    ("lock", "groups"),
    [("runtime.txt", ["build"]), ("dev.txt", ["build", "dev"]), ("docs.txt", ["docs"])],
)
def test_the_lock_fits_the_project(lock: str, groups: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [Requirement(text) for group in groups for text in project["dependency-groups"][group]]
    if lock != "docs.txt":
        wanted += map(Requirement, project["project"]["dependencies"])

    locked = pins(lock)

    assert [
        str(requirement)
        for requirement in wanted
        if (pin := locked.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(Version(pin))
    ] == [], "run make lock"


def test_every_pin_has_hashes_and_no_address() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text()
        assert "://" not in text
        assert "--index" not in text
        entries = re.split(
            r"^(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE
        )[1:]
        assert entries
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_locks_agree_where_they_overlap() -> None:
    dev = pins("dev.txt")
    for lock in ("runtime.txt", "docs.txt"):
        assert {
            name: version
            for name, version in pins(lock).items()
            if dev.get(name, version) != version
        } == {}


def test_the_oldest_python_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["mypy"]["python_version"] == "3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert sys.version_info >= (3, 11)
