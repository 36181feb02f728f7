"""Debian's libfaketime: one program on a machine whose clock is off."""

from __future__ import annotations

from pathlib import Path

from tests.lab.peers import require


def other_time(seconds: int) -> dict[str, str]:
    """Return the variables by which a program's clock is so many seconds ahead of ours."""
    require("faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # or waiting with a deadline never ends
    }
