"""httpx without its command line.

``import httpx`` loads ``httpx._main`` (and with it click, rich and pygments) whenever those are
installed; the quiet path of ``pull`` must not pay for that. httpx itself goes on without it.
"""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"

_kept_out = _COMMAND_LINE not in sys.modules
if _kept_out:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]
try:
    import httpx
finally:
    if _kept_out:
        del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]
