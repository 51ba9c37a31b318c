"""The golden cases as tests: from which directories, and for which there is no builder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.builders import BUILDERS, DIFFERENT
from tests.golden.runner import Case, load_cases, restorable_stores

SHIPPED = (Path(__file__).parent / "cases", Path(__file__).parent / "cases-4.4")
"""Cases of Kafka 4.2.1, then what 4.4.0 does otherwise or has more."""

_without_builder = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that names another directory of golden files."""
    parser.addoption(
        "--golden-dir",
        metavar="DIR",
        default=None,
        help="directory of golden cases to run in place of the shipped ones; a case is built by "
        "the builder of its name",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes one test per golden file that has what the test needs: a builder, if nothing else."""
    if "case" not in metafunc.fixturenames:
        return
    # Without a default, the option is unknown when tests are run from further up.
    given = metafunc.config.getoption("--golden-dir", None)
    cases = shipped_cases() if given is None else _cases_of(Path(given))
    metafunc.config.stash[_without_builder] = sorted(
        {case.name for case in cases if case.name not in BUILDERS}
    )
    wanted = [case for case in cases if _has(case, metafunc)]
    metafunc.parametrize("case", wanted, ids=[case.path.stem for case in wanted])


def shipped_cases() -> list[Case]:
    """Returns the cases of both versions; where both have one, that of the newer."""
    newest = {case.path.name: case for directory in SHIPPED for case in _cases_of(directory)}
    return [newest[name] for name in sorted(newest)]


def _cases_of(directory: Path) -> list[Case]:
    if not directory.is_dir():
        raise pytest.UsageError(f"--golden-dir: {directory} is not a directory")
    cases = load_cases(directory)
    if not cases:
        raise pytest.UsageError(f"--golden-dir: there are no golden cases in {directory}")
    return cases


def _has(case: Case, metafunc: pytest.Metafunc) -> bool:
    markers = {marker.name for marker in metafunc.definition.iter_markers()}
    if "needs_bytes" in markers:
        return "topology_hex" in case.data
    if case.name not in BUILDERS or case.name in DIFFERENT:
        return False
    if "needs_changelog" in markers:
        return case.has_steps and bool(restorable_stores(case))
    return "needs_steps" not in markers or case.has_steps


def pytest_configure(config: pytest.Config) -> None:
    """Declares the markers that say which cases a test takes."""
    for marker in (
        "needs_bytes: takes all golden cases with the bytes of a topology, and no others",
        "needs_steps: leaves out golden cases that are names only",
        "needs_changelog: leaves out golden cases without a store that can be restored",
    ):
        config.addinivalue_line("markers", marker)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Lists the golden cases there is no builder for."""
    names = config.stash.get(_without_builder, [])
    if names:
        terminalreporter.section(f"{len(names)} golden cases without a builder")
        terminalreporter.write_line(" ".join(names))
