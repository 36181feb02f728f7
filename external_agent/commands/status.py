"""``status``: every certificate on a line, or one with everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from external_agent.commands.context import Context
from external_agent.commands.lookup import find_certificate
from external_agent.commands.show import distance, show_status, table
from external_agent.facts.policy import RELAY_CERTIFICATE
from shared.contract.errors import ConfigurationError
from shared.host.terminal import emit, emit_json
from shared.host.watching import NEEDS_ATTENTION, watch

if TYPE_CHECKING:
    from external_agent.commands.client import Api

MOST_AT_LENGTH = 3
"""So many are shown with everything; of more, one line each."""
_RANK = {"ok": 0, "info": 1, "warning": 2, "critical": 3}
Json = dict[str, Any]


def status(
    context: typer.Context,
    certificate: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    again: Annotated[
        bool, typer.Option("--watch", help="Show it again every 5 s, until Ctrl-C.")
    ] = False,
    at_length: Annotated[
        bool, typer.Option("--long", help="Everything of each certificate, however many.")
    ] = False,
) -> None:
    """Show what is wanted, issued, pulled, installed and served; exit 13 if something needs you."""
    if as_json and again:
        raise ConfigurationError("--json and --watch do not go together.", do="Leave one out.")
    own: Context = context.obj

    def show() -> int:
        with own.api() as api:
            view = api.get("status") if certificate is None else _only(api, certificate, own.now)
        if as_json:
            emit_json(view)
        elif at_length or len(_all(view)) <= MOST_AT_LENGTH:
            show_status(view)
        else:
            show_overview(view)
        return NEEDS_ATTENTION if any(map(_needs_somebody, _all(view))) else 0

    raise typer.Exit(watch(show) if again else show())


def show_overview(view: Json) -> None:
    """Print one line a certificate, the worst first, then what needs somebody and what to do."""
    rows = sorted(_all(view), key=lambda one: (-_RANK[_severity(one)], one["certificate"]))
    table(
        f"{len(rows)} certificates",
        ("certificate", "needs you", "issued", "pulled", "installed", "served", "renewal"),
        [_line(one, view["now"]) for one in rows],
    )
    needy = [one for one in rows if _needs_somebody(one)]
    for one in needy:
        for concern in one["concerns"]:
            if _RANK[concern["severity"]] >= _RANK["warning"]:
                emit(f"{one['certificate']}: {concern['what']}", f"  to do: {concern['do']}")
    good = len(rows) - len(needy)
    emit(f"{good} of {len(rows)} are well; more of one: external-agent status NAME")


def _line(one: Json, now: int) -> tuple[str, ...]:
    if "origin" in one:  # a puller gets it by itself
        renewal = distance(one["next_renewal"], now) if one["next_renewal"] else "-"
        installed = _date(one["not_after"], now) if one["generation"] else "-"
        served = _word(one["served"]["matches"])
        return (one["certificate"], _severity(one), "direct", "-", installed, served, renewal)
    issued, pullers = one["issued"], one["pullers"]
    newest = issued["generation"] if issued else 0
    active = [each for each in pullers if each["status"] == "active"]
    stages = [
        _part(sum(each[stage]["generation"] == newest for each in active), len(active), newest)
        for stage in ("pulled", "installed")
    ]
    due = one["next_renewal"]["at"]
    return (
        one["certificate"],
        _severity(one),
        _date(issued["not_after"], now) if issued else "-",
        *stages,
        _part(sum(each["served"]["matches"] is True for each in active), len(active), newest),
        distance(due, now) if due else "now",
    )


def _part(done: int, of: int, newest: int) -> str:
    if not (of and newest):
        return "-"
    if done == of:
        return "yes"
    return "no" if of == 1 else f"{done} of {of}"


def _date(at: int, now: int) -> str:
    return f"ends {distance(at, now)}"


def _word(matches: bool | None) -> str:
    return {None: "-", True: "yes", False: "NO"}[matches]


def _severity(one: Json) -> str:
    found = [concern["severity"] for concern in one["concerns"]]
    return max(found, key=lambda word: _RANK[word], default="ok")


def _needs_somebody(one: Json) -> bool:
    return _RANK[_severity(one)] >= _RANK["warning"]


def _all(view: Json) -> list[Json]:
    return list(_every(view))


def _every(view: Json) -> Iterator[Json]:
    yield from view["certificates"]
    if view["relay"]:
        yield view["relay"]
    yield from view["direct"]


def _only(api: Api, text: str, now: int) -> Json:
    """Return what ``status`` shows of one; a direct one may have the id of an ordinary one."""
    directs = api.get("direct-certificates")["items"]
    direct = [one for one in directs if text in (one["certificate"], *one["names"])]
    if direct:
        ordinary = list(api.pages("certificates", name=text))
        found = [one for one in ordinary if one["certificate"] == text]
    else:
        found = [api.get("certificates", find_certificate(api, text))]
    relay = next((one for one in found if one["certificate"] == RELAY_CERTIFICATE), None)
    return {
        "now": now,
        "certificates": [] if relay else found,
        "relay": relay,
        "direct": direct,
    }
