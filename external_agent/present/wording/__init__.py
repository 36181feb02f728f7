"""What is said to people of a concern: one sentence that says what, and one what to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from external_agent.facts.issues import Concern, Kind
from external_agent.present.wording import english, japanese

Language = Literal["en", "ja"]
LANGUAGES: Mapping[str, Mapping[Kind, tuple[str, str]]] = {
    "en": english.CONCERNS,
    "ja": japanese.CONCERNS,
}
_ERRORS = {"en": english.ERRORS, "ja": japanese.ERRORS}
_BEFORE = {"en": english.BEFORE, "ja": japanese.BEFORE}


def describe(concern: Concern, language: Language = "en") -> tuple[str, str]:
    """Return what is so, and what to do about it."""
    what, to_do = LANGUAGES[language][concern.kind]
    facts: dict[str, object] = {"certificate": concern.certificate, **concern.facts}
    for name in ("at", "next"):
        if name in facts:
            facts[name] = moment(int(str(facts[name])))
    if "error" in facts:
        facts["error"] = reason(str(facts["error"]), language)
    facts["before"] = _BEFORE[language].format_map(facts) if facts.get("before") else ""
    known = _Known(facts)
    return what.format_map(known), to_do.format_map(known)


def reason(error: str, language: Language = "en") -> str:
    """Return what a receipt's error says, its type last; what has no words here stays as it is."""
    words = _ERRORS[language].get(error)
    return error if words is None else f"{words} ({error})"


def moment(at: int) -> str:
    """Return unix seconds as UTC text, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC") if at else "-"


class _Known(dict[str, object]):
    """A fact that a concern lacks leaves a dash, not a traceback."""

    def __missing__(self, key: str) -> str:
        return "-"
