"""A puller's own alarm, by mail or a command: for when the agent cannot be told, or tells nobody.

Each trouble is told once, and once that it is over. What was told is kept, so that a pull from a
timer repeats nothing.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from internal_puller.facts.expiry import WITHDRAWN
from internal_puller.outbox.report import PullReport
from internal_puller.settings.config import Settings
from internal_puller.state.files import read_private, write_private
from internal_puller.state.progress import Progress
from shared.contract.errors import ConfigurationError

FILE = "alarms.json"
_SECONDS = 60.0
MOST_TEXT = 16384  # characters; execve(2) refuses a variable of 128 KiB
_TO_BE_TOLD = ("bundle/", "install/", "configuration", "error")
_AT_ONCE = ("transport/puller-revoked",)
_unsaved: dict[Path, dict[str, str]] = {}
"""What was told and could not be noted: a service on a full disk does not tell it at every turn."""
_SENDMAIL_PATH = "/usr/sbin:/usr/lib:/usr/local/sbin:/usr/bin:/usr/local/bin"


def raise_alarm(
    settings: Settings,
    certificates: Iterable[str],
    progress: Progress,
    report: PullReport,
    now: float,
) -> None:
    """Tell what is new or over; what could not be told is a warning, and is tried again.

    Args:
        certificates: those of the targets here.
        now: unix seconds.
    """
    path = settings.state_directory / FILE
    told = _unsaved.get(path) or _told(path)
    so = troubles(settings, certificates, progress, report, now)
    news = {key: what for key, what in so.items() if key not in told}
    over = {key: what for key, what in told.items() if key not in so}
    if report.fault is not None:
        over = {}  # it was not looked at
    for state, entries in (("begun", news), ("over", over)):
        if not entries:
            continue
        problems = _tell(settings, state, list(entries.values()))
        if problems:
            report.warnings += problems
        elif state == "begun":
            told |= entries
        else:
            told = {key: what for key, what in told.items() if key not in entries}
    if told != _told(path):
        _unsaved[path] = told
        write_private(path, json.dumps(told).encode())
    _unsaved.pop(path, None)


def troubles(
    settings: Settings,
    certificates: Iterable[str],
    progress: Progress,
    report: PullReport,
    now: float,
) -> dict[str, str]:
    """Return what a person should be told: a stable key to its sentence."""
    if report.fault is not None:
        return {"fault": f"nothing can be installed: {report.fault.what}"}
    unserved = {f"unserved {place}": one.what for place, one in progress.standing.items()}
    found: dict[str, str] = {}
    for certificate in report.expiring:
        lines = [one for one in report.warnings if one.startswith(f"{certificate}: ")]
        found[f"expiring {certificate}"] = lines[0] if lines else f"{certificate}: it expires soon"
    for certificate in dict.fromkeys(certificates):
        one = progress.of(certificate)
        if one.withdrawn_at:
            found[f"withdrawn {certificate}"] = f"{certificate}: {WITHDRAWN}"
        error = one.error
        if error is None or error.what in unserved.values():
            continue
        if error.type.startswith(_TO_BE_TOLD):
            found[f"failing {certificate}"] = f"{certificate}: {error.what}"
    found |= unserved
    error = progress.error
    if error is not None and (
        error.type in _AT_ONCE or now - progress.last_contact > settings.alarm_hours * 3600
    ):
        since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(progress.last_contact))
        heard = f"since {since}" if progress.last_contact else "at all"
        found["agent"] = f"the agent has not answered {heard}: {error.what}"
    return found


def _told(path: Path) -> dict[str, str]:
    """A file that is no longer readable as one is begun anew: better told twice than never."""
    try:
        members = json.loads(read_private(path) or b"{}")
    except (ValueError, ConfigurationError):
        return {}
    if not isinstance(members, dict):
        return {}
    return {str(key): str(what) for key, what in members.items()}


def _tell(settings: Settings, state: str, lines: list[str]) -> list[str]:
    """Return why it could not be told, one sentence for each way that failed."""
    host = socket.gethostname()
    count = lines[0] if len(lines) == 1 else f"{len(lines)} certificates or agents"
    word = {"begun": "needs attention", "over": "is over"}[state]
    title = f"[split-horizon-relay] {host}: {word}: {count}"
    text = "\n".join(lines) + "\n"
    problems = {}
    if settings.alarm_command:
        problems["alarm_command"] = _command(settings.alarm_command, state, title, text)
    if settings.alarm_mail:
        problems["alarm_mail"] = _mail(settings.alarm_mail, title, text)
    return [f"{name}: {problem}" for name, problem in problems.items() if problem]


def _for_environment(text: str, most: int) -> str:
    """Cut what a person would not read to its end, and what the kernel would refuse (execve)."""
    clean = text.replace("\0", " ")
    if len(clean) <= most:
        return clean
    cut = clean[:most].rpartition("\n")[0] or clean[:most]
    return f"{cut}\n… and {clean[len(cut) :].strip().count(chr(10)) + 1} more: status says all.\n"


def _command(argv: tuple[str, ...], state: str, title: str, text: str) -> str:
    from shared.host.commands import run

    given = {
        "RELAY_ALARM": state,
        "RELAY_ALARM_TITLE": _for_environment(title, 400),
        "RELAY_ALARM_TEXT": _for_environment(text, MOST_TEXT),
    }
    try:
        result = run(argv, _SECONDS, given)
    except ConfigurationError as error:
        return f"{error.what} {error.do}"
    return "" if result.ok else f"{argv[0]} {result.describe()}"


def _mail(address: str, title: str, text: str) -> str:
    """Hand it to sendmail, as cron does: the machine's mail goes where its mail goes."""
    from email.message import EmailMessage

    from shared.host.commands import run

    program = shutil.which("sendmail", path=_SENDMAIL_PATH)
    if program is None:
        return "there is no sendmail; install a mail transport agent, or use alarm_command"
    message = EmailMessage()
    message["To"] = address
    message["Subject"] = " ".join(title.split())[:200]
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834, section 5
    message.set_content(text)
    result = run((program, "-t", "-oi"), _SECONDS, {}, message.as_bytes())
    return "" if result.ok else f"{program} {result.describe()}"
