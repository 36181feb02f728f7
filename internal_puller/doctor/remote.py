"""A target on another machine: whether it is reached, and files and commands work there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_puller.install.remote_control import running_there
from internal_puller.install.server import Running
from shared.contract.diagnosis import Finding, Verdict
from shared.contract.errors import RelayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from internal_puller.install.presets import Plan
    from internal_puller.install.remote import Remote

_STANDS = {
    Running.NO: "is stopped there",
    Running.FAILED: "has failed there",
}


def remote_findings(
    plan: Plan,
    remote: Remote,
    subject: str,
    configuration: Callable[[Plan, str], Iterator[Finding]],
) -> list[Finding]:
    """Look there over one connection; what cannot be reached is told once.

    Args:
        configuration: what is looked at of a server, wherever it is.
    """
    try:
        with remote.connected():
            remote.look()
            what = f"{remote} lets us in and speaks SFTP."
            found = [Finding("ssh", Verdict.OK, subject, what)]
            if remote.uses_control_master():
                what = "ControlMaster of the ssh configuration is not used: each installation "
                what += "makes a connection of its own."
                found.append(Finding("ssh", Verdict.NOTE, subject, what))
            return [*found, *configuration(plan, subject)]
    except RelayError as error:
        return [Finding("ssh", Verdict.PROBLEM, subject, error.what, error.do)]


def reload_there(remote: Remote, argv: tuple[str, ...], units: list[str], subject: str) -> Finding:
    """Say whether the command that reloads would find its unit running there."""
    command = " ".join(argv)
    for unit in units:
        stands = running_there(remote, unit)
        if stands is Running.YES:
            continue
        if stands not in _STANDS:
            why = "is changing at this moment" if stands is Running.CHANGING else "is not known"
            what = f"Whether {unit} runs at {remote} {why}; {command} needs it."
            return Finding("reload", Verdict.UNKNOWN, subject, what, f"systemctl status {unit}")
        what = f"{unit} {_STANDS[stands]}, at {remote}: {command} will fail."
        return Finding("reload", Verdict.PROBLEM, subject, what, f"systemctl status {unit}")
    if units:
        what = f"{' and '.join(units)} run{'s' if len(units) == 1 else ''} at {remote}."
        return Finding("reload", Verdict.OK, subject, what)
    what = f"{command} is run at {remote}; whether it is there is not looked at."
    return Finding("reload", Verdict.NOTE, subject, what)
