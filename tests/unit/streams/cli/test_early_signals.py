"""One signal at any moment of `thalweg run` is a clean stop: while it loads, while the script is
loaded, before there are workers and while they start.

Moments are those at which a module is first asked for. A hook sends the signal then, in the process
itself or from a worker to its supervisor. All processes together send one: a second signal means
"stop at once".
"""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.streams.cli.conftest import ROOT
from tests.waiting import HANG_S

Started = Callable[..., "subprocess.Popen[str]"]
Script = Callable[[str, str], str]

HOOK = '''
import os, pathlib, signal, sys

class Hook:
    """Sends the signal when the module is looked for the first time, in whichever process."""

    def find_spec(self, name, _path=None, _target=None):
        worker = "--state-dir" in sys.orig_argv
        if name == {module!r} and worker is {in_worker!r} and self.is_first():
            os.kill(os.getppid() if worker else os.getpid(), {number})
        return None

    def is_first(self):
        try:
            pathlib.Path({sent!r}).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

sys.meta_path.insert(0, Hook())
'''

PASSING = """
from thalweg import App, StreamsBuilder, serdes

builder = StreamsBuilder()
builder.stream("in", value_serde=serdes.string).to("out", value_serde=serdes.string)
app = App(builder, application_id="passing", bootstrap_servers="127.0.0.1:1")
"""

# What the command loads, in its order.
LOADED = (
    "thalweg.streams.cli.commands",
    "typer",
    "thalweg.streams.cli.run",
    "thalweg.streams.app",
    "thalweg.streams.cli.script",
    "thalweg.streams.processes.supervisor",
    "thalweg.topology.dsl.stream",
)


@pytest.fixture
def hooked(tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Returns the function that runs a script under the hook: it returns what was logged."""

    def run(script: str, *arguments: str, module: str, number: int, in_worker: bool = False) -> str:
        place = tmp_path / "hook"
        hook = HOOK.format(
            module=module, in_worker=in_worker, number=int(number), sent=str(place / "sent")
        )
        place.mkdir()
        (place / "sitecustomize.py").write_text(hook)
        environment = {"PYTHONPATH": f"{place}{os.pathsep}{ROOT}"}
        process = started("run", script, *arguments, environment=environment)
        _, log = process.communicate(timeout=HANG_S)
        assert (place / "sent").exists(), "no signal was sent"
        assert process.returncode == 0, f"{process.returncode}\n{log}"
        assert "Traceback" not in log
        return log

    return run


each_signal = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@each_signal
@pytest.mark.parametrize("module", LOADED)
def test_while_it_loads(
    hooked: Callable[..., str], script: Script, module: str, number: signal.Signals
) -> None:
    hooked(script("passing.py", PASSING), "--workers", "2", module=module, number=number)


@each_signal
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    "caught", ["", "except KeyboardInterrupt: pass", "except BaseException: raise ImportError"]
)
def test_while_the_script_is_loaded(
    hooked: Callable[..., str], script: Script, number: signal.Signals, workers: str, caught: str
) -> None:
    beginning = f"try: import late\n{caught or 'finally: pass'}\n"
    Path("late.py").write_text("")

    hooked(
        script("passing.py", beginning + PASSING),
        *("--workers", workers),
        module="late",
        number=number,
    )


@each_signal
@pytest.mark.parametrize(
    "module", ["typer", "thalweg.streams.cli.script", "thalweg.streams.app", "late"]
)
def test_while_its_workers_start(
    hooked: Callable[..., str], script: Script, module: str, number: signal.Signals
) -> None:
    Path("late.py").write_text("")

    log = hooked(
        script("passing.py", "import late\n" + PASSING),
        *("--workers", "3"),
        module=module,
        number=number,
        in_worker=True,
    )

    assert "started again" not in log


@each_signal
def test_while_brokers_are_waited_for(
    started: Started, script: Script, number: signal.Signals
) -> None:
    process = started("run", script("passing.py", PASSING), "--log-level", "warning")
    assert process.stderr is not None
    for line in process.stderr:
        if "Connection refused" in line:
            break

    process.send_signal(number)
    _, log = process.communicate(timeout=HANG_S)

    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_other_commands_end_as_interrupted(started: Started, script: Script) -> None:
    text = textwrap.dedent(
        """
        import os, signal
        os.kill(os.getpid(), signal.SIGINT)
        """
    )
    process = started("topology", script("passing.py", text + PASSING))
    process.communicate(timeout=HANG_S)
    assert process.returncode == 130
