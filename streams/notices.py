"""The logger of notices: messages that are no warnings but should be seen.

Owns only the logger. `streams.observe.logs` decides whether notices are shown.
"""

from __future__ import annotations

import logging
from typing import Final

NOTICES: Final = logging.getLogger("thalweg.notices")
"""For whoever sits in front of the application: something was made because it was missing. It is
said at the level info; `streams.observe.logs.install` lets it through at any level."""
