"""What `python -m bench` does.

    python -m bench             the embedded measurements
    python -m bench race        the race on a broker
    python -m bench latency     latency and cold starts on a broker

Options follow; `--help` tells them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def measurement(word: str) -> Callable[[list[str]], int] | None:
    """Returns what a first word stands for; each imports only what it needs."""
    if word == "race":
        from bench.race import run

        return run.main
    if word == "latency":
        from bench.race import latency

        return latency.main
    return None


def main(words: list[str]) -> int:
    named = measurement(words[0]) if words else None
    if named is not None:
        return named(words[1:])
    from bench import embedded

    return embedded.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
