"""What presets run leaves a stopped server stopped: Debian's own programs and init scripts.

Each command runs in a machine of its own, as far as that goes here: without processes, without
files in /run, without a network. What it starts would be seen. Under systemd:
tests/packages/test_booted.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from internal_puller.settings.presets.catalogue import NAMES, known
from tests.lab.peers import require

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
ALONE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
SECONDS = 60


def _commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    for preset in map(known, NAMES):
        if preset.without_systemd and preset.name != "exim":  # which is nowhere beside Postfix
            yield preset.name, preset.without_systemd


def left_running(argv: tuple[str, ...]) -> list[str]:
    """Run a command where nothing runs, and return what runs after it."""
    if os.geteuid() != 0:
        pytest.skip("namespaces: root")
    script = (
        "mount -t tmpfs none /run; mkdir -p /run/lock /run/apache2 /run/haproxy; "
        '"$@" >/dev/null 2>&1; '
        "for one in /proc/[0-9]*; do "
        'test "${one#/proc/}" = $$ || tr "\\0" " " <$one/cmdline; echo; done 2>/dev/null'
    )
    done = subprocess.run(
        [*ALONE, "sh", "-c", script, "sh", *argv],
        check=True,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return [line for line in done.stdout.splitlines() if line.strip() and "/cmdline" not in line]


def test_a_server_that_a_command_starts_is_seen() -> None:
    if not shutil.which("apachectl"):
        require("apache2")
    assert any("apache2" in line for line in left_running(("apachectl", "graceful")))
    assert any("haproxy" in line for line in left_running(("service", "haproxy", "reload")))


@pytest.mark.parametrize(("name", "argv"), list(_commands()))
def test_a_stopped_server_stays_stopped(name: str, argv: tuple[str, ...]) -> None:
    if known(name).programs and not any(map(shutil.which, known(name).programs)):
        require(name)
    assert left_running(argv) == []
