"""An Ansible connection into a Debian root: the command line that enters it is in the environment.

Read by Ansible, in an environment of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: debian_root
short_description: runs commands in a root
description: DEBIAN_ROOT is its directory, DEBIAN_ROOT_ENTER a JSON list of words before a command.
author: split-horizon-relay maintainers
options: {}
"""


class Connection(ConnectionBase):  # type: ignore[misc]
    """Commands by chroot, files by copying."""

    transport = "debian_root"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        enter = json.loads(os.environ["DEBIAN_ROOT_ENTER"])
        done = subprocess.run(
            [*enter, "/bin/sh", "-c", cmd], input=in_data, capture_output=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        shutil.copyfile(in_path, os.environ["DEBIAN_ROOT"] + out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        shutil.copyfile(os.environ["DEBIAN_ROOT"] + in_path, out_path)

    def close(self) -> None:
        """Nothing stays open."""
