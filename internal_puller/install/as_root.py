"""The steps of a server, performed as root for a puller that is not.

The service that speaks to the network runs as an account of its own. Servers have to be tested and
reloaded as root, so it asks a second unit, internal-puller-commands@.service, which speaks to
nobody else and runs nothing but what stands in the targets file, which belongs to root.

One connection is one step, a JSON object each way. The members are the targets whose files the
server reads, as far as they are installed together::

    {"server": "nginx", "step": "reload",
     "members": [{"directory": "/etc/…/tls/www.example.com", "generation": 7}]}
    {"ok": true, "how": "ended with exit code 0", "tail": "", "running": null}

``ok`` is ``true`` or ``false`` as the command says, and ``null`` where none was run to its end.

``running`` is how the server stands (``yes``, ``no``, ``failed``, ``changing``, ``not-known``): for
the step ``is-active``, and for a reload that was not run because the server does not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from internal_puller.install import local_socket
from internal_puller.install.perform import Answer, Step
from internal_puller.install.server import Running
from internal_puller.settings.account import is_service
from shared.contract import strict_json
from shared.contract.errors import ConfigurationError, RelayError
from shared.host.commands import (
    GRACE_SECONDS,
    OVERHANG_SECONDS,
    TAIL_BYTES,
    CommandResult,
    not_ended,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.contract.strict_json import Members

SOCKET: Final = Path("/run/split-horizon-relay/commands")
_STEPS: Final = frozenset(Step)
_STATES: Final = frozenset(Running)
_MAX_MEMBERS: Final = 2000
_MAX_ANSWER: Final = 16 * TAIL_BYTES  # JSON may write a character in six


@dataclass(frozen=True, slots=True)
class Request:
    """
    Attributes:
        server: its name.
        members: directories of targets, which tell them apart, and the generation in place.
    """

    server: str
    step: Step
    members: tuple[tuple[Path, int], ...]


def is_asked() -> bool:
    """Tell whether this process has commands run for it."""
    return is_service() and SOCKET.exists()


def ask(request: Request, seconds: float, place: Path = SOCKET) -> Answer:
    """Have a step performed, and return what came of it; whatever fails is in its words.

    Args:
        seconds: that the step's command may take.
    """
    members = [{"directory": str(path), "generation": number} for path, number in request.members]
    told = {"server": request.server, "step": request.step, "members": members}
    seconds += GRACE_SECONDS + OVERHANG_SECONDS
    try:
        answer = local_socket.exchange(place, strict_json.encode(told), seconds, _MAX_ANSWER)
    except OSError as error:
        return _not_run(f"could not be asked for at {place}: {error}")
    try:
        return _read_answer(answer)
    except ConfigurationError:
        return _not_run(f"got no answer from {place}; see its journal")


def _read_answer(answer: bytes) -> Answer:
    members = strict_json.decode_object(
        answer, "The answer", max_size=_MAX_ANSWER, error=ConfigurationError
    )
    ended = not members.take_null("ok")
    result = CommandResult(
        members.boolean("ok") if ended else False,
        members.text("how", max_length=TAIL_BYTES),
        members.text("tail", max_length=TAIL_BYTES),
        ended,
    )
    running = None
    if not members.take_null("running"):
        running = Running(members.one_of("running", _STATES))
    return Answer(result, running)


def answer(request: bytes, run: Callable[[Request], Answer]) -> bytes:
    """Return what the service says to a request.

    Args:
        run: raises ``RelayError``.
    """
    try:
        return _written(run(_read_request(request)))
    except RelayError as error:
        return refusal(error)


def _read_request(request: bytes) -> Request:
    limit = local_socket.MAX_REQUEST
    members = strict_json.decode_object(
        request, "The request", max_size=limit, error=ConfigurationError
    )
    read = Request(
        members.text("server", max_length=4096),
        Step(members.one_of("step", _STEPS)),
        members.objects("members", _read_member, max_items=_MAX_MEMBERS),
    )
    members.nothing_left()
    return read


def _read_member(member: Members) -> tuple[Path, int]:
    read = Path(member.text("directory", max_length=4096)), member.integer("generation")
    member.nothing_left()
    return read


def refusal(error: RelayError) -> bytes:
    """Return what the service says where nothing was run."""
    return _written(refused(error))


def refused(error: RelayError) -> Answer:
    """Return the answer where nothing was run."""
    return _not_run(f"was not run: {error.what}"[:TAIL_BYTES])


def _not_run(how: str) -> Answer:
    return Answer(not_ended(how))


def _written(answer: Answer) -> bytes:
    result = answer.result
    ok = result.ok if result.ended else None
    return strict_json.encode(
        {"ok": ok, "how": result.how, "tail": result.tail, "running": answer.running}
    )
