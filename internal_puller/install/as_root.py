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
import os
import select
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from internal_puller.settings.account import is_service
from shared.contract import strict_json
from shared.contract.errors import ConfigurationError, RelayError
from shared.host.commands import GRACE_SECONDS, OVERHANG_SECONDS, TAIL_BYTES, CommandResult

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET: Final = Path("/run/split-horizon-relay/commands")
STEPS: Final = frozenset({"test", "reload"})
MAX_REQUEST: Final = 16384
READ_SECONDS: Final = 5.0
"""In which a whole request is there: it is small, and its sender is on this machine."""
_MAX_ANSWER: Final = 16 * TAIL_BYTES  # JSON may write a character in six
_START_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.2


def is_asked() -> bool:
    """Tell whether this process has commands run for it."""
    return is_service() and SOCKET.exists()


def ask(
    directory: Path, step: str, generation: int, timeout: float, place: Path = SOCKET
) -> CommandResult:
    """Have a target's command run, and return how it ended.

    Args:
        directory: of the target; it tells targets apart.
        step: ``test`` or ``reload``.
        timeout: seconds that the command may take.
    """
    request = strict_json.encode(
        {"directory": str(directory), "step": step, "generation": generation}
    )
    patience = time.monotonic() + _START_SECONDS
    try:
        while not (answer := _answer_to(request, timeout, place)):
            if time.monotonic() > patience:  # too many ask at once, or it ends without a word
                break
            time.sleep(_PAUSE_SECONDS)
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


def _answer_to(request: bytes, timeout: float, place: Path) -> bytes:
    """Return what came back: nothing, where the connection was closed at once. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout + GRACE_SECONDS + OVERHANG_SECONDS + _START_SECONDS)
        connection.connect(str(place))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        return _whole(connection.recv)


def read_request(descriptor: int) -> bytes:
    """Return a request, or the beginning of what is too large to be one.

    Raises:
        ConfigurationError: its end did not come within ``READ_SECONDS``.
    """
    found = b""
    deadline = time.monotonic() + READ_SECONDS
    while len(found) <= MAX_REQUEST:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise ConfigurationError(f"The request did not end within {READ_SECONDS:g} s.")
        some = os.read(descriptor, MAX_REQUEST + 1)
        if not some:
            break
        found += some
    return found


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
        return refusal(error)
    return strict_json.encode(dataclasses.asdict(result))


def refusal(error: RelayError) -> bytes:
    """Return what the service says where nothing was run."""
    result = CommandResult(False, f"was not run: {error.what}"[:TAIL_BYTES], "")
    return strict_json.encode(dataclasses.asdict(result))


def _whole(receive: Callable[[int], bytes]) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while len(found) <= _MAX_ANSWER and (some := receive(65536)):
            found += some
    return found
