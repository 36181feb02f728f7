"""Gives what root has made for the agent to the account that its service runs as."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from external_agent.settings.config import Settings, default_config_path, default_state_directory

ACCOUNT = "external-agent"


def hand_over(config: Path, settings: Settings) -> bool:
    """Give the usual places to the service's account, if there is one, and tell whether.

    Settings stay root's, for its group to read (0640), and so does the EAB key beside them; what
    is in the state directory becomes its own. Raises ``OSError``.
    """
    usual = (default_config_path(), default_state_directory())
    if os.geteuid() != 0 or (config, settings.state_directory) != usual:
        return False
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return False
    for _, directories, files, folder in os.fwalk(settings.state_directory):
        for name in (*directories, *files, "."):
            _give(folder, name, account)
    for path in (config, eab_key(config)):
        if os.path.lexists(path):
            os.chown(path, 0, account.pw_gid, follow_symlinks=False)
            path.chmod(0o640)
    return True


def _give(folder: int, name: str, account: pwd.struct_passwd) -> None:
    """Give one entry of an open directory.

    The account could have linked a file of another's there, or put a link in the directory's place.
    """
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
        os.chown(name, account.pw_uid, account.pw_gid, dir_fd=folder, follow_symlinks=False)


def eab_key(config: Path) -> Path:
    """Return where ``init`` keeps the key of an external account binding."""
    return config.with_name("eab.key")
