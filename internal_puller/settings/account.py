"""The account under which the service runs, and whose files root trusts.

Only the standard library: the quiet path of ``pull`` comes through here.
"""

from __future__ import annotations

import os
from typing import Final

ACCOUNT: Final = "internal-puller"  # deploy/systemd/sysusers.conf


def is_trusted(uid: int) -> bool:
    """Tell whether files of this owner are as good as our own: root's, ours, the service's."""
    return uid in (0, os.geteuid()) or (os.geteuid() == 0 and uid == _service())


def is_service() -> bool:
    """Tell whether this process is the service's, and not root's or a person's."""
    return os.geteuid() != 0 and os.geteuid() == _service()


def service_ids() -> tuple[int, int] | None:
    """Return user and group of the service, for root to make things for it; ``None``: no such."""
    import pwd

    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


def how_to_read(path: object) -> str | None:
    """Return the step after a file that the service cannot read: its group may read root's."""
    return f"chown root:{ACCOUNT} {path} && chmod 0640 {path}" if is_service() else None


def _service() -> int | None:
    import pwd

    try:
        return pwd.getpwnam(ACCOUNT).pw_uid
    except KeyError:
        return None
