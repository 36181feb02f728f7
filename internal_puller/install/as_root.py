"""The commands of a target, run as root for a puller that is not.

The service that speaks to the network runs as an account of its own. Servers have to be tested and
reloaded as root, so it asks a second unit, internal-puller-commands@.service, which speaks to
nobody else and runs nothing but what stands in the targets file, which belongs to root.

One connection is one command, a JSON object each way::

    {"directory": "/etc/…/tls/www.example.com", "step": "reload", "generation": 7}
    {"ok": true, "how": "ended with exit code 0", "tail": ""}
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from internal_puller.settings.account import acts_for_root
from shared.contract import strict_json
from shared.contract.errors import ConfigurationError, RelayError
from shared.host.commands import GRACE_SECONDS, OVERHANG_SECONDS, TAIL_BYTES, CommandResult

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET: Final = Path("/run/split-horizon-relay/commands")
STEPS: Final = frozenset({"test", "reload"})
MAX_REQUEST: Final = 16384
_MAX_ANSWER: Final = 16 * TAIL_BYTES  # JSON may write a character in six
_START_SECONDS: Final = 20.0


def is_asked() -> bool:
    """Tell whether this process has commands run for it."""
    return acts_for_root() and SOCKET.exists()


def ask(
    directory: Path, step: str, generation: int, timeout: float, place: Path = SOCKET
) -> CommandResult:
    """Have a target's command run, and return how it ended.

    Args:
        directory: of the target; it tells targets apart.
        step: ``test`` or ``reload``.
        timeout: seconds that the command may take.
    """
    request = {"directory": str(directory), "step": step, "generation": generation}
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout + GRACE_SECONDS + OVERHANG_SECONDS + _START_SECONDS)
            connection.connect(str(place))
            connection.sendall(strict_json.encode(request))
            connection.shutdown(socket.SHUT_WR)
            answer = _whole(connection.recv)
    except OSError as error:
        return CommandResult(False, f"could not be asked for at {place}: {error}", "")
    try:
        members = strict_json.decode_object(
            answer, "The answer", max_size=_MAX_ANSWER, error=ConfigurationError
        )
        return CommandResult(
            members.boolean("ok"),
            members.text("how", max_length=TAIL_BYTES),
            members.text("tail", max_length=TAIL_BYTES),
        )
    except ConfigurationError:
        return CommandResult(False, f"got no answer from {place}; see its journal", "")


def answer(request: bytes, run: Callable[[Path, str, int], CommandResult]) -> bytes:
    """Return what the service says to a request.

    Args:
        run: takes directory, step and generation; raises ``RelayError``.
    """
    try:
        members = strict_json.decode_object(
            request, "The request", max_size=MAX_REQUEST, error=ConfigurationError
        )
        directory = Path(members.text("directory", max_length=4096))
        step = members.one_of("step", STEPS)
        generation = members.integer("generation")
        members.nothing_left()
        result = run(directory, step, generation)
    except RelayError as error:
        result = CommandResult(False, f"was not run: {error.what}"[:TAIL_BYTES], "")
    return strict_json.encode(dataclasses.asdict(result))


def _whole(receive: Callable[[int], bytes]) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while len(found) <= _MAX_ANSWER and (some := receive(65536)):
            found += some
    return found
