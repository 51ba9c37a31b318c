"""What `python -m bench` does.

    python -m bench             the embedded measurements, then the race's first cases, once
    python -m bench embedded    the embedded measurements
    python -m bench race        the race on a broker
    python -m bench latency     latency and cold starts on a broker
    python -m bench growth      cost per record against keys, windows, operators, stores, partitions

Options follow; `--help` tells them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

FIRST_CASES = "passthrough,map_filter,word_count,windowed_sum,stream_table_join,restore"


def measurement(word: str) -> Callable[[list[str]], int] | None:
    """Returns what a first word stands for; each imports only what it needs."""
    if word == "race":
        from bench.race import run

        return run.main
    if word == "latency":
        from bench.race import latency

        return latency.main
    if word == "embedded":
        from bench import embedded

        return embedded.main
    if word == "growth":
        from bench import growth

        return growth.main
    return None


def main(words: list[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if words:
        named = measurement(words[0])
        if named is not None:
            return named(words[1:])
        print(f"bench: there is no measurement {words[0]!r}; see bench/README.md", file=sys.stderr)
        return 2
    from bench import embedded
    from bench.race import run

    race = ["--cases", FIRST_CASES, "--contenders", "thalweg,jvm", "--reps", "1"]
    return embedded.main([]) or run.main(race)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
