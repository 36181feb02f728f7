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


def acts_for_root() -> bool:
    """Tell whether this is the service: not root, with root's say over files and nothing else."""
    return os.geteuid() != 0 and os.geteuid() == _service()


def _service() -> int | None:
    import pwd

    try:
        return pwd.getpwnam(ACCOUNT).pw_uid
    except KeyError:
        return None
