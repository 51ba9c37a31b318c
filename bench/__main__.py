"""`python -m bench`: the embedded measurements; `python -m bench race …` the race on a broker."""

from __future__ import annotations

import sys

from bench import embedded

if __name__ == "__main__":
    sys.exit(embedded.main(sys.argv[1:]))
