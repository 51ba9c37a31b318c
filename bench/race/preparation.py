"""What must stand before a race: the build directory, the Java classes, a broker.

Owns every path and process that is not a contender's. Whatever is built or written goes under
one directory outside the checkout; a broker started here is stopped here, by its pid.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BROKER_SCRIPT = HERE / "broker" / "broker.sh"


def build_dir() -> Path:
    """Returns `$BENCH_BUILD`, by default `~/.cache/thalweg/bench`, and makes it."""
    default = Path.home() / ".cache" / "thalweg" / "bench"
    path = Path(os.environ.get("BENCH_BUILD") or default).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def command(template: str, values: dict[str, object]) -> list[str]:
    """Splits a contender's command at blanks, then fills its placeholders in."""
    settings = {
        "build": str(build_dir()),
        "here": str(HERE),
        "python": sys.executable,
        "peer_python": os.environ.get("BENCH_PEER_PYTHON", sys.executable),
    }
    return [word.format(**settings, **values) for word in template.split()]


def environment() -> dict[str, str]:
    """Returns what a process started here sees: this checkout comes first on its path."""
    settings = {"BENCH_BUILD": str(build_dir()), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return os.environ | settings


def build_jvm(commands: list[str]) -> None:
    """Builds the Java contender if one of `commands` needs it and it is missing or outdated."""
    if not any("{build}/jvm" in template for template in commands):
        return
    target = build_dir() / "jvm"
    main = target / "classes" / "bench" / "Main.class"
    newest = max(path.stat().st_mtime for path in (HERE / "jvm").rglob("*") if path.is_file())
    if main.exists() and (target / "libs").is_dir() and main.stat().st_mtime >= newest:
        return
    print("building the Java contender", file=sys.stderr, flush=True)
    # The compiler would leave classes alone whose source did not change: they would stay outdated.
    shutil.rmtree(target, ignore_errors=True)
    pom = str(HERE / "jvm" / "pom.xml")
    subprocess.run(["mvn", "-q", "-f", pom, f"-Dbench.build={target}", "package"], check=True)


def stop_on_sigterm() -> None:
    """Makes SIGTERM unwind the stack, so that what was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


@contextlib.contextmanager
def broker(bootstrap: str | None, pid: int | None) -> Iterator[tuple[str, int | None]]:
    """Yields address and pid of the broker: the given one, or one started for the block.

    Raises:
        SystemExit: one started earlier under the same build directory runs still.
        subprocess.CalledProcessError: the broker did not come up; it has said why.
    """
    if bootstrap:
        yield bootstrap, pid
        return
    port = os.environ.get("BENCH_PORT", "29092")
    pid_file = build_dir() / "broker" / "pid"
    if pid_file.exists():
        raise SystemExit(
            f"{pid_file} tells of a broker that was not stopped: end it with "
            f"`{BROKER_SCRIPT.relative_to(ROOT)} stop`, or race on it with --bootstrap HOST:PORT"
        )
    try:
        subprocess.run(
            [str(BROKER_SCRIPT), "start"], check=True, stdout=sys.stderr, env=environment()
        )
        yield f"127.0.0.1:{port}", int(pid_file.read_text())
    finally:
        if pid_file.exists():
            subprocess.run([str(BROKER_SCRIPT), "stop"], check=True, env=environment())
