"""The JVM that runs plans: compiled once, one process for many plans.

Owns where the Java program of `jvm/` is built, and the talk with it: one plan, one result, each a
line of JSON. It must not know what is in a plan.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

VERSION: Final = "4.4.0"
HERE: Final = Path(__file__).parent


class OracleUnavailableError(Exception):
    """The JVM's side cannot be built or started."""


class Oracle:
    """A JVM that runs plans. Use it as a context manager, from one thread.

    Raises:
        OracleUnavailableError: Java or Maven are missing, or the program cannot be built.
    """

    def __init__(self) -> None:
        classes = _built()
        self._process = subprocess.Popen(
            ["java", "-XX:+UseSerialGC", "-Xmx512m", "-cp", classes, "differential.Main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one plan.

        Raises:
            OracleUnavailableError: the JVM ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(plan) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            message = f"the JVM ended with code {self._process.wait()}"
            raise OracleUnavailableError(message)
        result: dict[str, Any] = json.loads(line)
        return result

    def close(self) -> None:
        """Ends the JVM."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def _built() -> str:
    """Returns the class path of the program; builds it if its sources are newer."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg"
    sources = sorted((HERE / "jvm" / "src").rglob("*.java"))
    built = cache / f"differential-{VERSION}"
    classes = f"{built / 'classes'}{os.pathsep}{built / 'libs'}/*"
    newest = max(source.stat().st_mtime for source in sources)
    if (built / "classes").is_dir() and (built / "classes").stat().st_mtime >= newest:
        return classes
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            message = f"{program} is missing; install a JDK of version 17 or newer, and Maven"
            raise OracleUnavailableError(message)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        if (built / "libs").is_dir():
            shutil.copytree(built / "libs", made / "libs")
        else:
            _run(
                *("mvn", "-q", "-B", "-f", str(HERE / "jvm" / "pom.xml")),
                *("dependency:copy-dependencies", f"-DoutputDirectory={made / 'libs'}"),
                f"-Dkafka.version={VERSION}",
            )
        _run(
            *("javac", "-nowarn", "-cp", f"{made / 'libs'}/*", "-d", str(made / "classes")),
            *map(str, sources),
        )
        shutil.rmtree(built, ignore_errors=True)
        made.rename(built)
    return classes


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{command[0]} fails: {(done.stdout + done.stderr)[-2000:]}"
        raise OracleUnavailableError(message)
