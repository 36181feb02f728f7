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


def describe(concern: Concern, language: Language = "en") -> tuple[str, str]:
    """Return what is so, and what to do about it."""
    what, to_do = LANGUAGES[language][concern.kind]
    facts: dict[str, object] = {"certificate": concern.certificate, **concern.facts}
    for name in ("at", "next"):
        if name in facts:
            facts[name] = moment(int(str(facts[name])))
    known = _Known(facts)
    return what.format_map(known), to_do.format_map(known)


def moment(at: int) -> str:
    """Return unix seconds as UTC text, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC") if at else "-"


class _Known(dict[str, object]):
    """A fact that a concern lacks leaves a dash, not a traceback."""

    def __missing__(self, key: str) -> str:
        return "-"
