"""Which boot of this machine it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

BOOT_ID = "RELAY_BOOT_ID"
"""Set by the units, because their sandbox hides most of /proc."""
_FORM = re.compile(r"[0-9a-f]{32}\Z")


def boot_id(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> str:
    """Return what is another after each boot, 32 hex digits; empty if not known.

    Args:
        root: where ``proc`` is.
    """
    text = environment.get(BOOT_ID, "")
    with suppress(OSError):
        text = text or (root / "proc/sys/kernel/random/boot_id").read_text("ascii", "replace")
    found = text.strip().replace("-", "").lower()
    return found if _FORM.match(found) else ""
