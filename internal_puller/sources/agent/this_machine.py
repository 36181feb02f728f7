"""Which machine this is: a copy of it has the same keys, and the agent is to notice it.

Host name and machine id are copied with the disk; the boot id of a copy that runs beside its
original differs. After a reboot it is another installation, once, and never the old one again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from shared.contract.wire import HOST, Machine
from shared.host.boot import boot_id


def this_machine(
    root: Path = Path("/"),
    *,
    environment: Mapping[str, str] = os.environ,
    host: str | None = None,
) -> Machine | None:
    """Return the installation, or ``None`` where boot or host name are not known: no guess is made.

    Args:
        root: where ``etc`` and ``proc`` are.
        host: the host name; the kernel's if not given.
    """
    name = os.uname().nodename if host is None else host
    boot = boot_id(root, environment)
    if not boot or not HOST.match(name):
        return None
    machine = _read(root / "etc/machine-id")  # a container may have none
    whole = f"{machine}\n{boot}\n{name}"
    return Machine(hashlib.sha256(whole.encode()).hexdigest()[:32], name)


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text("ascii", errors="replace").strip()
    return ""
