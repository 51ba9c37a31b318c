"""The wheel: what it holds, and that it works beside a project with folders of our names."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command to its end and returns what it wrote."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution as an index would have it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out, cwd=ROOT)
    (archive,) = out.glob("*.tar.gz")
    run("tar", "xzf", archive, "-C", out, cwd=out)
    (source,) = (path for path in out.iterdir() if path.is_dir())
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel, whose dependencies are those installed here."""
    home = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    interpreter = home / "bin" / "python"
    (libraries,) = (home / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(libraries)
    # Only what the distribution depends on: the checkout itself must stay out of sight.
    ours = Path(pytest.__file__).parent.parent
    for entry in ours.iterdir():
        is_ours = "thalweg" in entry.name
        if not is_ours and entry.suffix != ".pth" and not (libraries / entry.name).exists():
            (libraries / entry.name).symlink_to(entry)
    return interpreter


def test_nothing_but_thalweg_is_installed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"thalweg"}
    for package in ("streams", "stores", "topology", "rebalance"):
        assert f"thalweg/{package}/__init__.py" in names
        assert f"thalweg/{package}/py.typed" in names
    assert "thalweg/py.typed" in names
    assert not [name for name in names if "/tests/" in name or "/bench/" in name]


def test_it_holds_every_module_of_the_checkout(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("streams", "stores", "topology", "rebalance"):
        for path in (ROOT / package).rglob("*.py"):
            assert f"thalweg/{path.relative_to(ROOT)}" in names


def test_the_first_script_runs_beside_a_project_with_our_folders_names(
    python: Path, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text()
    (script,) = re.findall(r'```python title="word_count.py"\n(.*?)```', readme, re.DOTALL)
    (tmp_path / "word_count.py").write_text(script)
    (tmp_path / "topology.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "__init__.py").write_text("WHOSE = 'theirs'\n")
    code = (
        "import thalweg, topology, stores; print(thalweg.__version__, topology.WHOSE, stores.WHOSE)"
    )
    assert re.fullmatch(r"\d+\.\d+\S* theirs theirs\n", run(python, "-c", code, cwd=tmp_path))
    for name in ("streams", "rebalance"):
        absent = f"import importlib.util; print(importlib.util.find_spec('{name}'))"
        assert run(python, "-c", absent, cwd=tmp_path) == "None\n"

    (tmp_path / "lines").write_text("a rose is\na rose is\na rose\n")
    thalweg = ("-m", "thalweg.streams.cli")
    run("sh", "-c", f"'{python}' -m thalweg.streams.cli produce lines < lines", cwd=tmp_path)
    run(python, *thalweg, "run", "word_count.py", "--until-idle", "--no-progress", cwd=tmp_path)
    rows = run(python, *thalweg, "query", "word_count.py", "counts", cwd=tmp_path)
    assert rows == "key\tvalue\na\t3\nis\t2\nrose\t3\n"

    checked = run(
        python, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "word_count.py",
        cwd=tmp_path,
    )  # fmt: skip
    assert "no issues found" in checked
