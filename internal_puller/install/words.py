"""The words of a verdict: what happened, where it was seen, what it means, what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from internal_puller.install.server import Running
from internal_puller.outbox.verdict import BACK, ERRORS, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from internal_puller.install.server import Server
    from internal_puller.outbox.look import Look
    from shared.contract.errors import InstallError


@dataclass(frozen=True, slots=True)
class About:
    """What a verdict is about, beside the verdict.

    Attributes:
        generation, leaf_sha256: of the new certificate; hex.
        server: the one that reads its files.
        previous: the generation in place before; ``None`` for a first certificate.
        ran: before anything was changed.
        detail: how the step that decided ended (``CommandResult.describe()``): the test for what
            it refused, else the reload or the start; empty where none did.
        before, looks: what the probe points answered before anything was changed, and now.
    """

    certificate: str
    generation: int
    leaf_sha256: str
    server: Server
    previous: int | None
    ran: Running = Running.NOT_KNOWN
    detail: str = ""
    before: tuple[Look, ...] = ()
    looks: tuple[Look, ...] = ()


def error_of(verdict: Verdict, about: About) -> InstallError | None:
    """Return what a verdict is for receipt, exit code and operator; ``None`` if it is good."""
    kind = ERRORS[verdict]
    if kind is None:
        return None
    error = kind(f"{about.certificate}, generation {about.generation}: {_WHAT[verdict](about)}.")
    if verdict in BACK:
        error.means = _means_of_back(verdict, about)
    return error


def start_it(server: Server, ran: Running) -> str:
    """Return how a server that does not run is started, as a command to paste if there is one."""
    there = " there" if server.machine else ""
    if server.unit is None:
        return f"start it{there}"
    command = f"systemctl start {server.unit}"
    if ran is Running.FAILED:
        command = f"systemctl reset-failed {server.unit} && {command}"
    return f"start it{there} ({command})"


def _means_of_back(verdict: Verdict, about: About) -> str:
    """By what is in place: a first certificate has none before it."""
    first = about.previous is None
    place = (
        "No certificate was in place here before, and none is now"
        if first
        else f"Generation {about.previous} is in place again"
    )
    if verdict is Verdict.BACK_UNSEEN:
        return f"{place}, but what was served before could not be seen again."
    if verdict is Verdict.BACK_BY_DEATH:
        return f"{place}, and the server was started again."
    return f"{place}."


def _not_taken_up(about: About) -> str:
    return f"{_named(about.server)} goes on showing the certificate before: {_others(about)}"


def _another_server(about: About) -> str:
    return (
        f"another certificate is shown, as it was before: {_others(about)}; the probe looks at "
        f"another server, or {_named(about.server)} reads other files"
    )


def _seen_before(about: About) -> str:
    seen = {one.where for one in about.before if one.leaf_sha256 == about.leaf_sha256}
    places = _places(one for one in about.looks if one.where in seen)
    return (
        f"seen before it was put in place: {places}; the probe does not look at this server alone"
    )


def _cannot_be_seen(about: About) -> str:
    return f"cannot be seen from here: {_others(about)}"


def _not_running(about: About) -> str:
    how = "has failed" if about.ran is Running.FAILED else "is not running"
    return f"{_named(about.server)} {how}; {start_it(about.server, about.ran)}"


def _reload_failed(about: About) -> str:
    return f"{_named(about.server)} could not be told to reload: {about.detail}"


def _broken_before(about: About) -> str:
    return f"the configuration of {_named(about.server)} was already broken: {about.detail}"


def _not_caused(about: About) -> str:
    return (
        "not caused by the certificate: what was served before did not come back without it: "
        f"{_found(about)}"
    )


def _worse(about: About) -> str:
    return f"with it, {_named(about.server)} got worse: {_changes(about) or _others(about)}"


def _refused(about: About) -> str:
    return f"with it, {_named(about.server)} refuses its configuration: {about.detail}"


def _died(about: About) -> str:
    ended = f" ({about.detail})" if about.detail else ""
    return f"{_named(about.server)} ran before, and its reload with it ended it{ended}"


def _back_unseen(about: About) -> str:
    return (
        f"{_named(about.server)} got worse, and is not as before after going back: {_found(about)}"
    )


_WHAT: Final[Mapping[Verdict, Callable[[About], str]]] = {
    Verdict.NOT_TAKEN_UP: _not_taken_up,
    Verdict.ANOTHER_SERVER: _another_server,
    Verdict.SEEN_BEFORE: _seen_before,
    Verdict.CANNOT_BE_SEEN: _cannot_be_seen,
    Verdict.NOT_RUNNING: _not_running,
    Verdict.RELOAD_FAILED: _reload_failed,
    Verdict.BROKEN_BEFORE: _broken_before,
    Verdict.NOT_CAUSED: _not_caused,
    Verdict.WORSE_AND_KEPT: _worse,
    Verdict.BACK_BY_TEST: _refused,
    Verdict.BACK_BY_LEAF: _worse,
    Verdict.BACK_BY_DEATH: _died,
    Verdict.BACK_UNSEEN: _back_unseen,
}


def _named(server: Server) -> str:
    """One that only its target's directory names is called the server of that."""
    name = f"the server of {server.name}" if server.name.startswith("/") else server.name
    return f"{name}{_on(server)}"


def _on(server: Server) -> str:
    return f" on {server.machine}" if server.machine else ""


def _found(about: About) -> str:
    return "; ".join(part for part in (about.detail, _places(about.looks)) if part)


def _places(looks: Iterable[Look]) -> str:
    return "; ".join(one.describe() for one in looks)


def _others(about: About) -> str:
    """Where something else than the new leaf was seen, or nothing."""
    return _places(
        one for one in about.looks if one.leaf_sha256 != about.leaf_sha256 or one.trouble
    ) or _places(about.looks)


def _changes(about: About) -> str:
    """What each address shows now where it showed something else before."""
    before = {one.where: one for one in about.before}
    return "; ".join(
        f"{now.describe()} (before: {had.seen()})"
        for now in about.looks
        if (had := before.get(now.where)) and had.seen() != now.seen()
    )
