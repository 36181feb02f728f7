"""What a receiver is sent: one message for everything that began, and one for what is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from external_agent.facts.issues import Concern, Severity
from external_agent.present.wording import Language, describe
from external_agent.present.wording.alerts import WORDS
from external_agent.records.alert_rows import ToldAlert

MOST = 20
"""So many are told in one message; a CA that fails concerns all of them at once."""

Tone = Literal["info", "success", "warning", "failure"]
"""As apprise calls them (``NotifyType``)."""


@dataclass(frozen=True, slots=True)
class Message:
    """
    Attributes:
        title: one line.
        body: plain text.
    """

    title: str
    body: str
    tone: Tone


def of_concerns(concerns: Sequence[Concern], language: Language) -> Message:
    """Return what is sent when these began; there is at least one."""
    words = WORDS[language]
    worst = max(one.severity for one in concerns)
    tone: Tone = "failure" if worst is Severity.CRITICAL else "warning"
    told = [(one.certificate, *describe(one, language)) for one in concerns]
    lines = [f"{name}: {what}\n  {words.to_do} {to_do}" for name, what, to_do in told[:MOST]]
    if len(told) == 1:
        title = f"{told[0][0]}: {told[0][1]}"
    else:
        title = words.several.format(count=len(told))
    return Message(_title(title), _body(lines, len(told), words.more), tone)


def of_recoveries(over: Sequence[ToldAlert], language: Language) -> Message:
    """Return what is sent when these are over; there is at least one."""
    words = WORDS[language]
    lines = [f"{one.certificate}: {words.over} {one.what}" for one in over[:MOST]]
    if len(over) == 1:
        title = f"{over[0].certificate}: {words.over} {over[0].what}"
    else:
        title = words.several_over.format(count=len(over))
    return Message(_title(title), _body(lines, len(over), words.more), "success")


def of_test(language: Language) -> Message:
    """Return what ``alerts test`` sends."""
    words = WORDS[language]
    return Message(_title(words.test), words.test_body, "info")


def _title(text: str) -> str:
    line = " ".join(text.split())
    return f"[split-horizon-relay] {line if len(line) <= 160 else line[:159] + '…'}"


def _body(lines: Sequence[str], count: int, more: str) -> str:
    rest = [more.format(count=count - MOST)] if count > MOST else []
    return "\n".join([*lines, *rest])
