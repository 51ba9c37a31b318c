"""What is no trouble but should be seen: where it is said, and by which logger.

Owns the logger only. `streams.observe.logs` decides whether it is shown.
"""

from __future__ import annotations

import logging
from typing import Final

NOTICES: Final = logging.getLogger("thalweg.notices")
"""For whoever sits in front of the application: something was made because it was missing. It is
said at the level info; `streams.observe.logs.install` lets it through at any level."""
